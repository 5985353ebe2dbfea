"""Reading and verifying an exported model folder."""

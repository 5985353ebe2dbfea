"""Train, validation and test sets."""

"""The start of a study: its parameters, protection of an edited file, and what to type next."""

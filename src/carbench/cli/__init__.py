"""The `carbench` command line."""

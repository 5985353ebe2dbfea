"""The subcommands of `carbench`, one module each."""

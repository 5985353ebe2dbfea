"""The subcommands of `carbench`: each a module with ``add_arguments`` and ``run``."""

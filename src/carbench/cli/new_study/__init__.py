"""Starting a study: its parameters, protection of edited files, and next steps."""

"""params.yaml, typed: one module a section, so that a stage depends on its own section's code."""

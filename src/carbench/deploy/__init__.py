"""From the chosen model to a running service: export, bundle, service, drift."""

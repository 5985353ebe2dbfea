"""Deployment of the chosen model: export, bundle, service, drift detection."""

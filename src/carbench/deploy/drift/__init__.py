"""Drift detection: whether new images differ from the validation images."""

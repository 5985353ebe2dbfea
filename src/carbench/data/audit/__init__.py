"""Duplicate detection: groups images that show the same picture, and reports the consequences."""

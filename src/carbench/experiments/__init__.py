"""Experiments and commits side by side: reading their results, and saying how they differ."""

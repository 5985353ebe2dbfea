"""Comparison of experiments and commits: reading their results and describing how they differ."""

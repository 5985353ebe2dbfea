"""Typed rows of the result tables, and the formatting of their numbers."""

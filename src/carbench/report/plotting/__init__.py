"""Shared plotting code of the figures: style, colours, layouts and labels."""

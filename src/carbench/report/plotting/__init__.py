"""Plotting code shared by the figures: style, colours, layouts and labels."""

"""Jinja environment and style sheet shared by all HTML pages."""

"""Typed sections of params.yaml, one module each, so that stages depend only on their own."""

"""The figures: a module each, each drawn from tables, without torch or pandas."""

"""The figures: a module each, each drawn from one table that aggregate wrote."""

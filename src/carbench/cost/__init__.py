"""Cost of a prediction in the served runtime and in others (stage cost)."""

"""One training: the recipe at work, and the search for its learning rate."""

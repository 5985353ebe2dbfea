"""One training: data, recipe, loop, checkpoint; and the search for its learning rate."""

"""Training: data, recipe, loop, checkpoints and learning-rate search."""

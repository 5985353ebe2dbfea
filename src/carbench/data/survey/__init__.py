"""A first look at a set of images, from which `carbench init` chooses a study."""

"""Whether new images are still like those that the model was tested on."""

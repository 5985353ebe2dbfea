"""Whether new pictures are still like those that the model was tested on."""

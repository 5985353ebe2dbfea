"""What `carbench promote` checks before it registers a version of the model."""

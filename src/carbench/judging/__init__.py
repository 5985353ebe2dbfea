"""What a model says of pictures: predictions, metrics, calibration, explanations."""

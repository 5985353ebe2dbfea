"""What a model predicts: metrics, calibration, explanations, and what a prediction costs."""

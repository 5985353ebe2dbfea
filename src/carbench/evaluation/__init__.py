"""Evaluation of predictions: metrics, thresholds, prediction sets, corruptions, attributions."""

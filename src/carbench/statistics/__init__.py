"""Statistics of predictions: confidence intervals, comparisons and model selection."""

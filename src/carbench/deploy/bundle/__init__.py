"""The exported model as those who use it see it: the service, drift detection, benchmarks."""

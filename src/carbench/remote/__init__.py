"""Jobs on machines that share only a DVC remote: requests, workers, and taking their results."""

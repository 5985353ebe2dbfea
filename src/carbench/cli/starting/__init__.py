"""The start of a study: choosing its parameters, writing params.yaml, and what to type next."""

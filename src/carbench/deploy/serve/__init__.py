"""The HTTP service: prediction API, web page, prediction log, monitoring."""

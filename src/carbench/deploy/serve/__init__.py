"""The exported model as a service: HTTP, a page, a log of predictions, monitoring."""

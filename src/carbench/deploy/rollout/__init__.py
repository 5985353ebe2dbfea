"""Deploying an exported model to the folder that a service reads."""

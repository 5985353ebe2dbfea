"""Screening: linear probes on the features of many timm models, without fine-tuning.

A candidate is a timm model with its initial weights. Its features of the training images are
computed once, and a ridge classifier on them is evaluated by cross-validation.
"""

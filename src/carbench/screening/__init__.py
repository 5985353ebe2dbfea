"""Screening: how well a linear classifier on a pretrained model's features does, for many models.

A candidate is a timm model with its starting weights. Its features of the training images are
computed once, a ridge classifier on them is judged by cross-validation, and nothing is fine-tuned.
"""

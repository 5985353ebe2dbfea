"""Batches of the pack on the device, and augmentation."""

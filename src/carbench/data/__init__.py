"""Images: sources, duplicates, splits, packing and augmentation."""

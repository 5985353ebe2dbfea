"""Images: where they come from, duplicates, splits, packing, augmentation."""

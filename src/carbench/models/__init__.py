"""timm models: made by name, started from pinned weights, kept on disk, placed on a device."""

"""The packed pictures: one array for all backbones, read in batches, changed on the device."""

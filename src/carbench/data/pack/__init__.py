"""The pack: all images, decoded and resized once, in one array file."""

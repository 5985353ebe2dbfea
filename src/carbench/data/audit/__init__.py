"""What counts as the same image, and what that means for a set of images."""

"""What counts as the same picture, and what that means for a set of pictures."""

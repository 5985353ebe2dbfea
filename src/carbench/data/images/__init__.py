"""Images: which formats, how they are decoded, what is measured of them."""

"""Image files: formats, decoding and image statistics."""

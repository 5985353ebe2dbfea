"""What carbench's stages share. Nothing is imported here: each stage pays only for what it uses."""

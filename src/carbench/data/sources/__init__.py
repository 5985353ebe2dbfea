"""Sources of images: folder, zip archive, Kaggle or the embedded sample, as one file listing."""

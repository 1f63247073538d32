"""How bytes on disk become cameras, images and points; synthetic scenes with ground truth."""

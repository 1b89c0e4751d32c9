"""What augmentation does to an image and its label."""

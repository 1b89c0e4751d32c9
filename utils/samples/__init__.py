"""Which files make a sample, and what an image and its label are before augmentation."""

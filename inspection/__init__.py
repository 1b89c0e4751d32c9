"""What the files of a dataset hold, and what would go wrong in training with them."""

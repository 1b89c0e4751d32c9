"""Which images to predict, which files to make of each, and which of them exist."""

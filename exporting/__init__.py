"""A checkpoint as a file for other programs, refused unless it answers like the model."""

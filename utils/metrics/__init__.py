"""The confusion matrix, every metric derived from it, and intervals."""

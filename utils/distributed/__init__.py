"""What differs between one process and many."""

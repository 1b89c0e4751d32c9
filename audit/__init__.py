"""What would go wrong in training, found before it: the work of `check.py`."""

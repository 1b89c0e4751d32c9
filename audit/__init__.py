"""What would go wrong in training, found before it: the parts of `check.py`."""

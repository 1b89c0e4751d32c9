"""The work of `train.py`."""

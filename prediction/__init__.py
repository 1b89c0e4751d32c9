"""From images to predictions: the work of `inference.py`."""

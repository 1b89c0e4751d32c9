"""What evaluate.py measures, and what it shows of it."""

"""Checkpoints and files of weights: saved whole, read without running anything."""

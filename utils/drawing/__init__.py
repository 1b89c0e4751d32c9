"""Colours of classes, and the images that people look at."""

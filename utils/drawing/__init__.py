"""Colours of classes, overlays and legends."""

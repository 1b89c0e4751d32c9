"""Coarse logits, and labels from logits."""

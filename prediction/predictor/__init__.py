"""From the pixels of an image to the logits of its classes."""

"""What the pages of all programs share: text, images, style and scripts."""

"""Images of any size, and windows of them."""

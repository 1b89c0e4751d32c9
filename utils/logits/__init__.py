"""What is done with logits: sums over coarse ones, labels from them."""

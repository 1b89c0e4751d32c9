"""Images and masks, one module per file format."""

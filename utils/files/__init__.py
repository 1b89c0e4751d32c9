"""Pictures and masks, one file a format."""

"""From config sections to objects."""

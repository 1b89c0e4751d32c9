"""Code that everything above shares, in one folder per subject."""

"""Comparisons with other libraries in one run; prints ratios."""

"""Exported files as networks: each file here loads one format."""

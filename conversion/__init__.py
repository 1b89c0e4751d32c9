"""From other programs' files to masks and lists: the work of `convert.py`."""

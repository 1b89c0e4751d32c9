"""From other programs to masks and lists."""

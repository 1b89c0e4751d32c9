"""What every part of a run has to promise."""

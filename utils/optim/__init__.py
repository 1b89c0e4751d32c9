"""Learning rates, parameter groups, moving average, precision."""

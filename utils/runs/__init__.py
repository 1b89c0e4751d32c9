"""The folder of a run: log, lock, metrics, scores."""

"""Values that options of several programs share; apart, so that a `--help` imports no torch."""

MODES = ("multiscale", "sliding", "whole")  # of a prediction, see `Predictor`
DEFAULT_MODE = "multiscale"  # of inference.py
TRAINING_MODE = "whole"  # of every validation, and of evaluate.py unless told otherwise
SPLITS = ("train", "val", "test")
SCORED_KEYS = ("train_loader", "val_loader", "test_loader", "ignore_index")  # of a config

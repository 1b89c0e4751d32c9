"""Values that options of several programs share; apart, so that a `--help` imports no torch."""

MODES = ("multiscale", "sliding", "whole")  # modes of prediction, see `Predictor`
DEFAULT_MODE = "multiscale"  # the default of inference.py
TRAINING_MODE = "whole"  # mode of every validation, and the default of evaluate.py
SPLITS = ("train", "val", "test")
SCORED_KEYS = ("train_loader", "val_loader", "test_loader", "ignore_index")  # of a config

"""Values that options of several programs share; apart, so that a `--help` imports no torch."""

MODES = ("multiscale", "sliding", "whole")  # modes of prediction, see `Predictor`
MERGES = ("mean-logits", "mean-probabilities", "max")  # see `Scores`
FLIPS = ("none", "horizontal", "both", "all8")  # see `views_of()`
BLENDS = ("gaussian", "linear", "none")  # see `WindowRule`
AMPS = ("auto", "bf16", "fp16", "off")  # see `InferencePrecision`
DEFAULT_MODE = "multiscale"  # the default of inference.py
TRAINING_MODE = "whole"  # mode of every validation, and the default of evaluate.py
SPLITS = ("train", "val", "test")
SCORED_KEYS = ("train_loader", "val_loader", "test_loader", "ignore_index")  # of a config

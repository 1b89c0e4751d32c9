"""The mode in which a model was scored last, from its checkpoint and its run folder."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from utils.checkpoint.content import Checkpoint
from utils.cli.choices import TRAINING_MODE
from utils.config.keys import value_at
from utils.metrics.threshold import recorded_search
from utils.runs.scores_file import METRIC, last_kept


class LastScore(NamedTuple):
    """The last score of a model."""

    mode: str  # the mode of prediction, see `Predictor`
    sentence: str  # as in `the model's Mean_IoU 0.8123 (epoch 12) was measured in mode whole`


def last_score(checkpoint: Checkpoint, path: str | None = None) -> LastScore | None:
    """Return what is known of the last score of a model.

    It comes from what `evaluate.py` has stored in the run folder, from the search for a threshold,
    or else from the validation of the training. A checkpoint that is not the best of its training
    has no score of its own, but its mode is known.

    Returns:
        None if nothing is known: bare weights, or a training without validation.
    """
    kept = None if path is None else last_kept(path)
    if kept is not None:
        value = f"{METRIC} {kept[METRIC]:.4f} on {kept['split']}"
        return LastScore(kept["mode"], f"the model's {value} was measured in mode {kept['mode']}")
    config, epoch = checkpoint.config, checkpoint.epoch
    search = recorded_search(checkpoint.meta)
    best = epoch is not None and checkpoint.best_epoch == epoch
    # The record of a training may be of an earlier epoch.
    if search and (best or config.get("threshold") != "search"):
        score, mode = search.get("score"), search.get("mode")
        if isinstance(score, float) and math.isfinite(score) and isinstance(mode, str):
            metric = search.get("figure")
            return LastScore(mode, f"the model's {metric} {score:.4f} was measured in mode {mode}")
    trained = isinstance(config.get("trainer"), Mapping)
    if epoch is None or not trained or not value_at(config, "trainer.val", True):
        return None
    score, metric = checkpoint.monitor_best, str(value_at(config, "trainer.monitor")).split()[-1]
    if best and score is not None and math.isfinite(score) and metric != "off":
        subject = f"the model's {metric} {score:.4f} (epoch {epoch}) was"
    else:
        subject = "the metrics of the model's training were"
    return LastScore(TRAINING_MODE, f"{subject} measured in mode {TRAINING_MODE}")

"""Weights & Biases: takes over what TensorBoard writes."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.config.sections import WandbSection
from utils.runs.tracker import RunInfo, Tracker

START_SECONDS = 30  # how long to wait for a server at the start
END_SECONDS = 120  # and for the last uploads at the end


class WandbTracker(Tracker):
    """Sends scalars, images and texts to W&B as they are written to the TensorBoard files.

    https://docs.wandb.ai/guides/integrations/tensorboard. `open()` has to be called before the
    writer of TensorBoard is made.

    Args:
        run: The run.
        settings: How it appears.
    """

    name = "wandb"
    packages = {"wandb": "wandb"}  # noqa: RUF012

    def __init__(self, run: RunInfo, settings: WandbSection) -> None:
        super().__init__(run)
        self.settings = settings
        self._run: Any = None

    def open(self, run_id: str | None) -> str:
        """Begin a run, or continue the one of this id; return its id.

        Raises:
            ValueError: If there is no key for the server; nobody is asked for one.
        """
        os.environ["WANDB_ERROR_REPORTING"] = "false"  # read on import: no reports to its makers
        import wandb
        from wandb.integration.tensorboard import patch

        settings = self.settings
        mode: Any = settings.mode or os.environ.get("WANDB_MODE", "online")
        if mode == "online" and not wandb.login(prompt=False):
            raise ValueError(
                'no API key; set WANDB_API_KEY, or "mode": "offline" in trainer.wandb to send the '
                "run later with: wandb sync"
            )
        # What `init(sync_tensorboard=True)` does, but the root folder is known from the start:
        # W&B waits ten seconds for a second folder to find it otherwise.
        root = str(self.run.tensorboard.resolve())
        patch(save=False, pytorch=True, root_logdir=root)
        self._run = wandb.init(
            id=run_id,
            resume="allow",
            project=settings.project or self.run.name,
            entity=settings.entity,
            name=settings.name or self.run.path.name,
            group=settings.group,
            tags=settings.tags,
            config=dict(self.run.config),
            dir=str(self.run.path),
            mode=mode,
            settings=wandb.Settings(
                silent=True,
                console="off",  # the progress bar would be a million lines
                disable_git=True,
                save_code=False,
                init_timeout=START_SECONDS,
                finish_timeout=END_SECONDS,
                finish_timeout_raises=True,
            ),
        )
        self._run.config.update(dict(self.run.config), allow_val_change=True)
        return str(self._run.id)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Do nothing: they are taken from the TensorBoard files."""

    def best_checkpoint(self, path: Path, epoch: int) -> None:
        """Note where the best model so far is, and of which epoch."""
        self._run.summary.update({"best_checkpoint": str(path), "best_epoch": epoch})

    def close(self, *, finished: bool) -> None:
        """End the run; W&B calls one that can be resumed failed until it is."""
        self._run.finish(exit_code=0 if finished else 1)
        self._unpatch()

    def abandon(self) -> None:
        """Leave TensorBoard as it was, and end the process of W&B."""
        import wandb

        self._unpatch()
        with contextlib.suppress(Exception):  # it may be what has failed
            wandb.teardown(exit_code=1)

    def _unpatch(self) -> None:
        from wandb.integration.tensorboard import unpatch

        unpatch()

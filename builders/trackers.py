"""The services that `trainer.loggers` names beside TensorBoard."""

from collections.abc import Iterable

from utils.config.errors import ConfigError
from utils.config.sections import Config
from utils.runs.logger import RunFolder
from utils.runs.mlflow_tracker import MlflowTracker
from utils.runs.tracker import RunInfo, Tracker
from utils.runs.wandb_tracker import WandbTracker

TRACKERS: dict[str, type[Tracker]] = {"wandb": WandbTracker, "mlflow": MlflowTracker}


def check_trackers(names: Iterable[str]) -> None:
    """Refuse services whose packages are not installed; import none.

    Raises:
        ConfigError: With the command that installs them.
    """
    missing = {name: TRACKERS[name].missing() for name in names if name in TRACKERS}
    problems = [
        f"{name} needs other packages: pip install {' '.join(packages)}"
        for name, packages in missing.items()
        if packages
    ]
    if problems:
        raise ConfigError("trainer.loggers", problems)


def build_trackers(config: Config, folder: RunFolder) -> list[Tracker]:
    """Return the services of a run, not opened yet."""
    settings = config.trainer
    run = RunInfo(config.name, folder.path, folder.tensorboard, config.tree)
    made: list[Tracker] = [
        WandbTracker(run, settings.wandb),
        MlflowTracker(run, settings.mlflow, settings.log_dir),
    ]
    return [tracker for tracker in made if tracker.name in settings.loggers]

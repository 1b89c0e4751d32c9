"""MLflow: scalars, the config as parameters, the path of the best checkpoint."""

import hashlib
import json
import logging
import os
import posixpath
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from utils.config.sections import MlflowSection
from utils.runs.tracker import RunInfo, Tracker

MAX_NAME, MAX_VALUE = 250, 6000  # characters of a metric's or parameter's name, of a value
MAX_PARAMETERS = 100  # in one request
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
# A server that does not answer must not hold up the training for long; MLflow waits an hour.
LIMITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


class MlflowTracker(Tracker):
    """Sends scalars to an MLflow server, or writes them to an SQLite file.

    https://mlflow.org/docs/latest/tracking

    Args:
        run: The run.
        settings: Where it goes, and how it appears.
        log_dir: Where the SQLite file is if nothing else is said.
    """

    name = "mlflow"
    packages = {"mlflow": "mlflow-skinny", "sqlalchemy": "sqlalchemy", "alembic": "alembic"}  # noqa: RUF012

    def __init__(self, run: RunInfo, settings: MlflowSection, log_dir: str) -> None:
        super().__init__(run)
        self.settings = settings
        self.log_dir = log_dir
        self._client: Any = None
        self._id = ""
        self._resumed = False
        # The last step of each curve that an interrupted run had already sent.
        self._sent: dict[str, int] = {}

    def open(self, run_id: str | None) -> str:
        """Begin a run, or continue the one of this id; return its id."""
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        for name, value in {**LIMITS, "MLFLOW_LOGGING_LEVEL": "ERROR"}.items():
            os.environ.setdefault(name, value)
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # not every retry
        from mlflow.tracking import MlflowClient

        address = self._address()
        if address.startswith(DATABASES):
            _try_database(address)
        self._client = MlflowClient(tracking_uri=address)
        self._resumed = run_id is not None
        if run_id is None:
            tags = {**self.settings.tags, "run_folder": str(self.run.path.resolve())}
            name = self.settings.name or self.run.path.name
            run = self._client.create_run(self._experiment(), run_name=name, tags=tags)
            run_id = run.info.run_id
        else:
            self._client.update_run(run_id, status="RUNNING")
        self._id = run_id
        self._write_parameters(self._client.get_run(run_id).data.params)
        return run_id

    def _address(self) -> str:
        given = self.settings.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if given:
            return given
        return f"sqlite:///{Path(self.log_dir).resolve() / 'mlflow.db'}"

    def _experiment(self) -> str:
        name = self.settings.experiment or self.run.name
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else self._client.create_experiment(name)

    def _write_parameters(self, former: Mapping[str, str]) -> None:
        """Add the config; as no parameter can change, a tag says which values have."""
        from mlflow.entities import Param

        now = dict(_flat(self.run.config, ""))
        new = [Param(name, value) for name, value in now.items() if name not in former]
        for start in range(0, len(new), MAX_PARAMETERS):
            self._client.log_batch(self._id, params=new[start : start + MAX_PARAMETERS])
        changed = {name: now[name] for name in former.keys() & now if now[name] != former[name]}
        if changed:
            text = ", ".join(f"{name}={changed[name]}" for name in sorted(changed))
            self._client.set_tag(self._id, "changed_on_resume", text[:MAX_VALUE])

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add one point to each named curve, unless it had been sent before the run was resumed."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        named = {metric_name(tag): value for tag, value in values.items()}
        points = [
            Metric(name, float(value), now, step)
            for name, value in named.items()
            if not self._resumed or step > self._last_step(name)
        ]
        if points:
            self._client.log_batch(self._id, metrics=points)

    def _last_step(self, name: str) -> int:
        if name not in self._sent:
            history = self._client.get_metric_history(self._id, name)
            self._sent[name] = max((point.step for point in history), default=-1)
        return self._sent[name]

    def best_checkpoint(self, path: Path, epoch: int) -> None:
        """Note where the best model so far is, and of which epoch."""
        self._client.set_tag(self._id, "best_checkpoint", str(path.resolve()))
        self._client.set_tag(self._id, "best_epoch", str(epoch))

    def close(self, *, finished: bool) -> None:
        """End the run; one that can be resumed is `KILLED` until it is."""
        self._client.set_terminated(self._id, status="FINISHED" if finished else "KILLED")

    def abandon(self) -> None:
        """Do nothing: no connection is held."""


def _try_database(address: str) -> None:
    """Connect to a database once; MLflow would try for two minutes, and say so ten times."""
    from sqlalchemy import create_engine, make_url

    url = make_url(address)
    if url.get_backend_name() == "sqlite" and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url)
    with engine.connect():
        pass
    engine.dispose()


def metric_name(tag: str) -> str:
    """Return a tag as MLflow allows it; different tags stay different.

    Class names can contain anything. A character that MLflow refuses becomes its code point in
    colons.
    """
    name = re.sub(r"[^\w\-. /]", _code, tag, flags=re.ASCII)
    if posixpath.normpath(name) != name or name.startswith(("/", "..")):
        name = re.sub(r"[/.]", _code, name)
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - 41]} {hashlib.sha1(name.encode()).hexdigest()}"


def _code(match: re.Match[str]) -> str:
    return f":{ord(match[0]):x}:"


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the values of a config with their dotted paths."""
    if isinstance(value, Mapping) and value:
        for key, entry in value.items():
            yield from _flat(entry, f"{path}.{key}" if path else str(key))
    else:
        text = value if isinstance(value, str) else json.dumps(value)
        yield metric_name(path), text[:MAX_VALUE]

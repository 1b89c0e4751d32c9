"""What W&B and MLflow get of a run, read back with MLflow's client and from W&B's own file."""

import contextlib
import importlib.util
import json
import logging
import math
import os
import pty
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys

import psutil
import pytest
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

from builders.trackers import check_trackers
from tests.conftest import ROOT
from tests.processes import run_program
from tests.training_runs import assert_same, run, small_config, steps_of, trained
from trainer import Trainer
from utils.checkpoint.save_load import load_checkpoint
from utils.runs.mlflow_tracker import MAX_NAME, metric_name

KEY = "0123456789abcdef" * 2 + "abcdef01"  # what a key of W&B looks like
BOTH = ["tensorboard", "wandb", "mlflow"]


@pytest.fixture(scope="module")
def patched():
    with pytest.MonkeyPatch.context() as context:
        yield context


@pytest.fixture(scope="module", autouse=True)
def alone(patched, tmp_path_factory):
    """No settings of this machine's user, and an error for any call to another machine."""
    home = tmp_path_factory.mktemp("home")
    patched.setenv("HOME", str(home))
    for name in [n for n in os.environ if n.startswith(("WANDB_", "MLFLOW_"))]:
        patched.delenv(name)
    connect = socket.socket.connect

    def local(self, address):
        assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1"), address
        return connect(self, address)

    patched.setattr(socket.socket, "connect", local)
    return home


def logged_config(tmp_path, **trainer):
    settings = {
        "epochs": 3, "tensorboard": True, "log_per_iter": 1, "save_every_steps": 2, "loggers": BOTH,
        "wandb": {"mode": "offline", "group": "g", "tags": ["t"]},
    }  # fmt: skip
    return small_config(tmp_path, **{**settings, **trainer})


def at_step(patched, number, event):
    """Something happens before a step."""
    train_step = Trainer.train_step

    def stepping(self, *arguments):
        if self.step == number:
            event()
        return train_step(self, *arguments)

    patched.setattr(Trainer, "train_step", stepping)


class Killed(Exception):
    """Ends a run without a checkpoint, as a kill does."""


def kill():
    raise Killed


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run without loggers, to compare with."""
    tmp_path = tmp_path_factory.mktemp("plain")
    return trained(tmp_path, small_config(tmp_path, epochs=3, save_every_steps=2))


@pytest.fixture(scope="module")
def resumed(tmp_path_factory, alone):
    """A run with both loggers that ends in its eighth step without a word, and is resumed."""
    tmp_path = tmp_path_factory.mktemp("resumed")
    tree = logged_config(tmp_path, mlflow={"tags": {"site": "north"}})
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("WANDB_API_KEY", KEY)
        patched.setenv("MLFLOW_TRACKING_TOKEN", KEY[::-1])
        at_step(patched, 7, kill)
        with pytest.raises(Killed):
            run(tmp_path, tree)
        patched.undo()
        patched.setenv("WANDB_API_KEY", KEY)
        assert run(tmp_path, tree, "--resume", "auto", "-otrainer.early_stop=50")[0] == 0
    (folder,) = (tmp_path / "saved" / "test").iterdir()
    return tmp_path, folder


def curves_of(folder):
    """Tag -> step -> value in the TensorBoard files."""
    events = EventAccumulator(str(folder.parents[1] / "runs" / "test" / folder.name)).Reload()
    return {
        tag: {point.step: point.value for point in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }


def copy_database(resumed, tmp_path):
    """Use a database that is there: MLflow takes seconds to make one."""
    target = tmp_path / "saved" / "runs" / "mlflow.db"
    target.parent.mkdir(parents=True)
    shutil.copy(resumed[0] / "saved" / "runs" / "mlflow.db", target)


def client_of(tmp_path):
    return MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/saved/runs/mlflow.db")


def runs_of(client):
    return client.search_runs([e.experiment_id for e in client.search_experiments()])


def records_of(path):
    """The records of a file of W&B: a log of LevelDB whose magic number is W&B's.

    https://github.com/google/leveldb/blob/main/doc/log_format.md
    """
    data, position, parts = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, size, kind = struct.unpack("<IHB", data[position : position + 7])
        parts += data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


def wandb_files(folder):
    return sorted(folder.glob("wandb/offline-run-*/*.wandb"))


def test_feature_loggers_leave_the_training_as_it_is(resumed, plain):
    assert_ends_as(resumed[1], plain)


def assert_ends_as(folder, plain):
    """But for what names the logs and the settings, and the moments of the checkpoints."""
    one, other = (load_checkpoint(path / "last.pth") for path in (folder, plain))
    for checkpoint in (one, other):
        del checkpoint["logs"], checkpoint["loggers"], checkpoint["config"]
    assert_same(one, other)
    assert steps_of(folder) == steps_of(plain)


def test_feature_mlflow_has_what_tensorboard_has_each_point_once(resumed):
    tmp_path, folder = resumed
    client = client_of(tmp_path)
    (found,) = runs_of(client)
    curves = curves_of(folder)
    assert {"train/loss", "val/Mean_IoU", "val_Class_IoU/ground"} <= set(curves)
    assert set(found.data.metrics) == set(curves)
    for tag, points in curves.items():
        history = client.get_metric_history(found.info.run_id, tag)
        assert len(history) == len(points), tag
        if tag not in ("train/images_per_second", "train/data_wait"):
            got = {point.step: point.value for point in history}
            assert got == pytest.approx(points, rel=1e-6, nan_ok=True), tag
    assert len(curves["train/loss"]) == 9


def test_feature_mlflow_has_config_tags_and_the_best_checkpoint(resumed):
    tmp_path, folder = resumed
    (found,) = runs_of(client_of(tmp_path))
    data = found.data
    assert (data.params["optimizer.args.lr"], data.params["loss"]) == ("0.05", "CrossEntropyLoss2d")
    assert data.params["trainer.loggers"] == json.dumps(BOTH)
    assert data.tags["site"] == "north" and data.tags["run_folder"] == str(folder)
    assert data.tags["best_checkpoint"] == str(folder / "best_model.pth")
    assert data.tags["best_epoch"] == str(load_checkpoint(folder / "last.pth")["best_epoch"])
    assert (found.info.run_name, found.info.status) == (folder.name, "FINISHED")
    assert load_checkpoint(folder / "last.pth")["loggers"]["mlflow"] == found.info.run_id


def test_feature_wandb_takes_over_what_tensorboard_writes(resumed):
    _, folder = resumed
    first, second = wandb_files(folder)
    curves = curves_of(folder)
    run_id = load_checkpoint(folder / "last.pth")["loggers"]["wandb"]
    points, tags = {}, set()
    for path in (first, second):
        for record in records_of(path):
            if record.HasField("run"):
                about = record.run
                assert (about.run_id, about.project, about.run_group) == (run_id, "test", "g")
                assert (about.display_name, list(about.tags)) == (folder.name, ["t"])
                config = {entry.key: entry.value_json for entry in about.config.update}
                assert json.loads(config["optimizer"])["args"]["lr"] == 0.05
            if record.HasField("history"):
                items = record.history.item
                values = {"/".join(i.nested_key) or i.key: i.value_json for i in items}
                step = int(values["global_step"])
                tags |= values.keys()
                points |= {(tag, step): values[tag] for tag in curves.keys() & values}
    expected = {(tag, step): value for tag in curves for step, value in curves[tag].items()}
    assert points.keys() == expected.keys()
    fixed = [key for key in points if not key[0].endswith(("second", "data_wait"))]
    numbers = {key: float(points[key].strip('"')) for key in fixed}
    assert numbers == pytest.approx({key: expected[key] for key in fixed}, rel=1e-6, nan_ok=True)
    assert any(tag.startswith("val/inputs_targets_predictions") for tag in tags)


def test_feature_wandb_has_the_best_checkpoint(resumed):
    _, folder = resumed
    values = [
        entry.value_json
        for record in records_of(wandb_files(folder)[0])
        for entry in record.summary.update
        if "best_checkpoint" in (entry.key, *entry.nested_key)
    ]
    assert values and set(values) == {json.dumps(str(folder / "best_model.pth"))}


def test_feature_no_file_has_a_key(resumed, alone):
    files = [p for place in (resumed[0], alone) for p in place.rglob("*") if p.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    for path in files:
        content = path.read_bytes()
        assert KEY.encode() not in content and KEY[::-1].encode() not in content, path


def kill_wandb():
    for process in psutil.Process().children(recursive=True):
        if "wandb-core" in " ".join(process.cmdline()):
            process.kill()
            process.wait()


def drop_metrics(tmp_path):
    with sqlite3.connect(tmp_path / "saved" / "runs" / "mlflow.db") as database:
        database.execute("DROP TABLE metrics")


FAILING = {
    "no server": ("mlflow", {"mlflow": {"tracking_uri": "http://127.0.0.1:9"}}, None),
    "no folder": ("mlflow", {"mlflow": {"tracking_uri": "sqlite:////dev/null/runs/m.db"}}, None),
    "mlflow in the middle": ("mlflow", {}, drop_metrics),
    "wandb in the middle": ("wandb", {}, lambda tmp_path: kill_wandb()),
}


@pytest.mark.parametrize("case", FAILING)
def test_feature_a_logger_that_fails_ends_nothing(
    tmp_path, monkeypatch, caplog, plain, resumed, case
):
    name, settings, event = FAILING[case]
    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    copy_database(resumed, tmp_path)
    if event is not None:
        at_step(monkeypatch, 4, lambda: event(tmp_path))
    loggers = ["tensorboard", name]
    folder = trained(tmp_path, logged_config(tmp_path, **{"loggers": loggers, **settings}))
    warned = [r.getMessage() for r in caplog.records if "the training continues" in r.getMessage()]
    assert len(warned) == 1 and warned[0].startswith(f"{name} cannot be written")
    assert_ends_as(folder, plain)
    assert len(curves_of(folder)["train/loss"]) == 9  # TensorBoard goes on


@pytest.mark.slow
def test_feature_nobody_is_asked_for_a_key(tmp_path):
    """On a terminal, where W&B would ask, and without a key."""
    tree = logged_config(
        tmp_path, loggers=["tensorboard", "wandb"], wandb={"mode": "online"}, epochs=1
    )
    (tmp_path / "c.json").write_text(json.dumps(tree))
    command = [sys.executable, ROOT / "train.py", "-c", tmp_path / "c.json", "-d", "cpu"]
    main, terminal = pty.openpty()
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # at the end
        while part := os.read(main, 1024):
            shown += part
    os.close(main)
    assert process.wait(60) == 0, shown
    text = shown.decode()
    assert text.count("the training continues") == 1 and "WANDB_API_KEY" in text
    assert "choice" not in text and "Traceback" not in text


@pytest.mark.slow
def test_feature_only_the_first_process_logs(tmp_path, resumed):
    copy_database(resumed, tmp_path)
    tree = logged_config(tmp_path, loggers=["tensorboard", "mlflow"], epochs=1)
    (tmp_path / "c.json").write_text(json.dumps(tree))
    words = "--config", tmp_path / "c.json", "--device", "cpu"
    done = run_program(ROOT / "train.py", 2, *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    client = client_of(tmp_path)
    new, _ = runs_of(client)  # the newest first
    history = client.get_metric_history(new.info.run_id, "train/loss")
    assert [point.step for point in history] == [1, 2, 3]


def test_exception_missing_packages(monkeypatch):
    find_spec = importlib.util.find_spec
    missing = ("wandb", "mlflow", "sqlalchemy")
    monkeypatch.setattr(
        "utils.runs.tracker.find_spec", lambda name: None if name in missing else find_spec(name)
    )
    with pytest.raises(ValueError, match="pip install wandb") as error:
        check_trackers(BOTH)
    assert "pip install mlflow-skinny sqlalchemy\n" in f"{error.value}\n"
    check_trackers(["tensorboard"])


NAMES = ["a", "a b", "road (wet)", "road :28:wet:29:", "a//b", "a/b/", "..", "../a", "ü", "."]


def test_feature_any_class_has_a_curve_of_its_own(tmp_path, resumed):
    from mlflow.entities import Metric

    tags = [f"val_Class_IoU/{name}" for name in NAMES] + ["x" * 300, "x" * 299 + "y"]
    names = [metric_name(tag) for tag in tags]
    assert len(set(names)) == len(tags) and max(map(len, names)) <= MAX_NAME
    assert metric_name("train/loss") == "train/loss"
    copy_database(resumed, tmp_path)
    client = client_of(tmp_path)
    found = client.create_run(client.create_experiment("e"))
    metrics = [Metric(name, math.nan, 0, 0) for name in names]
    client.log_batch(found.info.run_id, metrics=metrics)
    assert set(client.get_run(found.info.run_id).data.metrics) == set(names)

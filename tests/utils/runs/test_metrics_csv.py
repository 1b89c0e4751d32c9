"""metrics.csv, read back with Python's own reader."""

import csv
import math
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import ROOT
from tests.training_runs import run, small_config, steps_of, trained
from utils.metrics.confusion import SCALAR_METRICS
from utils.runs.metrics_csv import MetricsCsv, column_name


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path, *rows):
    table = MetricsCsv(path)
    for row in rows:
        table.write(row)
    table.close()


def test_smoke_values_come_back_to_the_last_bit(tmp_path):
    path = tmp_path / "m.csv"
    third, huge = 1 / 3, 1e300
    write(path, {"epoch": 1, "a": third, "b": None}, {"epoch": 2, "a": math.nan, "b": huge})
    first, second = rows_of(path)
    assert (first["epoch"], float(first["a"]), first["b"]) == ("1", third, "")
    assert (second["a"], float(second["b"])) == ("nan", huge)


def test_feature_rows_are_appended_under_the_first_header(tmp_path):
    path = tmp_path / "m.csv"
    write(path, {"epoch": 1, "a": 0.5})
    write(path, {"epoch": 2, "other": 7.0, "a": 0.25})  # a resumed run with another column
    assert path.read_text().splitlines() == ["epoch,a", "1,0.5", "2,0.25"]


def test_feature_half_a_row_of_a_crash_is_taken_back(tmp_path):
    path = tmp_path / "m.csv"
    write(path, {"epoch": 1, "a": 0.5}, {"epoch": 2, "a": 0.75})
    os.truncate(path, path.stat().st_size - 3)
    write(path, {"epoch": 2, "a": 0.25})
    assert path.read_text().splitlines() == ["epoch,a", "1,0.5", "2,0.25"]
    path.write_text("epo")
    write(path, {"epoch": 1})
    assert path.read_text().splitlines() == ["epoch", "1"]


NAMES = ['road, "wet"', "a\nb", "=1+1", "x;=cmd|' /C calc'!A0", "+a,-b", "\udcff", "Straße"]


def test_feature_class_names_of_strangers_are_text(tmp_path):
    """Nothing in the header begins a formula, wherever a spreadsheet ends the cells."""
    path = tmp_path / "m.csv"
    write(path, {f"IoU/{name}": 0.5 for name in NAMES})
    (row,) = rows_of(path)
    assert len(row) == len(NAMES) and 'IoU/road, "wet"' in row and "IoU/Straße" in row
    header = path.read_text().splitlines()[0]
    for separator in ";,\t|":
        cells = [cell.strip(" \"'") if separator == "," else cell for cell in
                 header.split(separator)]  # fmt: skip
        assert not any(cell.lstrip().startswith(("=", "+", "@")) for cell in cells), separator
    assert column_name("=1+1") == "'=1+1" and column_name(" -x") == "' -x"
    names = ["=x", "'=x", "''=x", " =x", "'x", "x"]
    assert len({column_name(name) for name in names}) == len(names)
    assert column_name("IoU/wall-other") == "IoU/wall-other"


@pytest.fixture(scope="module")
def four_epochs(tmp_path_factory):
    """Three epochs, of which the second and the last are validated; then a fourth, resumed."""
    tmp_path = tmp_path_factory.mktemp("trained")
    tree = small_config(tmp_path, epochs=3, val_per_epochs=2)
    folder = trained(tmp_path, tree)
    before = rows_of(folder / "metrics.csv")
    # What a killed run has written after its checkpoint.
    with (folder / "metrics.csv").open("a") as file:
        file.write("4,12,0.1\n5,15")
    assert run(tmp_path, tree, "--resume", str(folder), "-otrainer.epochs=4")[0] == 0
    return folder, before


def test_feature_a_run_leaves_a_row_for_each_epoch(four_epochs):
    folder, rows = four_epochs
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "3"), ("2", "6"), ("3", "9")]
    for number, row in enumerate(rows, 1):
        # The mean of the steps' losses, which another file holds.
        own = [step["loss"] for step in steps_of(folder) if step["epoch"] == number]
        assert float(row["loss"]) == pytest.approx(sum(own) / 3, abs=1e-7)
        validated = number > 1
        for name in ("val_loss", *SCALAR_METRICS):
            assert bool(row[name]) == validated, name
        assert all(row[f"train/{name}"] for name in SCALAR_METRICS)
        assert float(row["images_per_second"]) > 0
        ious = [row[key] for key in row if key.startswith("IoU/")]
        assert len(ious) == 6 and any(ious) == validated
        if validated:
            known = [float(iou) for iou in ious if iou]
            assert float(row["Mean_IoU"]) == pytest.approx(sum(known) / len(known))
        assert float(row["Learning_rate_0"]) > 0
    assert list(rows[0])[-3:] == ["images_per_second", "data_wait", "seconds"]
    assert "val_loss " + f"{float(rows[-1]['val_loss']):.4f}" in (folder / "log.txt").read_text()


def test_feature_the_rows_are_what_tensorboard_got(tmp_path):
    folder = trained(tmp_path, small_config(tmp_path, tensorboard=True, log_per_iter=1))
    events = EventAccumulator(str(tmp_path / "saved" / "runs" / "test" / folder.name)).Reload()
    names = {
        "val/loss": "val_loss", "val/Mean_IoU": "Mean_IoU", "val/Pixel_Accuracy": "Pixel_Accuracy",
        "train/Mean_IoU": "train/Mean_IoU", "train/Pixel_Accuracy": "train/Pixel_Accuracy",
        "train/Learning_rate_0": "Learning_rate_0", "val_Class_IoU/disk": "IoU/disk",
        "train_Class_IoU/disk": "train/IoU/disk",
    }  # fmt: skip
    rows = rows_of(folder / "metrics.csv")
    assert [float(row["seconds"]) > 0 for row in rows] == [True, True]
    for tag, name in names.items():
        points = {str(point.step): point.value for point in events.Scalars(tag)}
        for row in rows:
            assert float(row[name]) == pytest.approx(points[row["step"]], rel=1e-6), (tag, row)


def test_feature_a_kill_leaves_whole_rows(tmp_path):
    """Rows longer than the buffer of a file, which would be written in pieces."""
    code = (
        "import sys; from pathlib import Path; from utils.runs.metrics_csv import MetricsCsv\n"
        "table = MetricsCsv(Path(sys.argv[1]))\n"
        "for epoch in range(10**9): table.write({f'IoU/{k}': epoch / 7 for k in range(2000)})\n"
    )
    for number in range(3):
        path = tmp_path / f"{number}.csv"
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT)
        while not (path.exists() and path.stat().st_size > 100_000):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert path.read_bytes().endswith(b"\n")
        assert {len(row) for row in csv.reader(path.read_text().splitlines())} == {2000}


def test_exception_a_full_disk_leaves_whole_rows(tmp_path):
    """A file with a limit takes a part of the row first."""
    table = MetricsCsv(tmp_path / "m.csv")
    table.write({"epoch": 1, "a": 0.5})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
        with pytest.raises(OSError):
            table.write({"epoch": 2, "a": 1 / 3})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, former)
    assert (tmp_path / "m.csv").read_text() == "epoch,a\n1,0.5\n"


def test_feature_a_resumed_run_has_no_row_twice_and_none_missing(four_epochs):
    folder, before = four_epochs
    rows = rows_of(folder / "metrics.csv")
    assert rows[:3] == before
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]

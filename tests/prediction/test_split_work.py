"""evaluate.py and inference.py under torchrun: what comes out is what one process gives."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import check
import convert
import evaluate
import evaluation.score_split
import inference
import models
from dataloaders.shapes import Shapes
from prediction.predictor.network import IN_WINDOWS
from prediction.provenance import NAME
from tests.conftest import ROOT
from tests.processes import run_program
from utils.checkpoint.save_load import load_checkpoint, save_checkpoint

SIZES = ((48, 40), (40, 56))  # width, height
CLASSES = ["ground", "shape"]
IMAGES = 7
PATIENCE = 300  # seconds: what hangs does so for ever, and a machine may be busy
PASSING = ("<dt>Date</dt><dd>.*?</dd>", "<dt>Duration</dt><dd>.*? s on")  # in a page

# Runs a program with something done to process 1 before.
WRAPPER = """
import os, sys, time
sys.path.insert(0, {root!r})
import {program} as program
if os.environ.get("RANK", "1") == "1":
{patch}
sys.exit(program.main())
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Images of two sizes with labels of two classes, and a model that says both."""
    folder = tmp_path_factory.mktemp("made")
    for index in range(IMAGES):
        width, height = SIZES[index % 2]
        image, mask, _ = Shapes(num_images=IMAGES, image_size=64).load(index)
        mask = (mask > 0).astype(np.uint8)
        mask[:3] = 255
        for name, pixels in (("images", image), ("masks", mask)):
            (folder / name / "val").mkdir(parents=True, exist_ok=True)
            path = folder / name / "val" / f"p{index}.png"
            Image.fromarray(pixels[:height, :width]).save(path)
    torch.manual_seed(0)
    network = models.UNet(2, base_channels=2)
    network.final_conv.weight.data.normal_(0, 0.3)
    network.final_conv.bias.data = torch.tensor([0.5, -0.5])
    args = {"classes": CLASSES, "data_dir": str(folder), "split": "val", "num_workers": 0}
    checkpoint = {
        "state_dict": network.state_dict(),
        "config": {
            "arch": {"type": "UNet", "args": {"base_channels": 2}},
            "val_loader": {"type": "Folder", "args": {**args, "batch_size": 3}},
        },
        "meta": {
            "classes": CLASSES, "palette": [[0, 0, 0], [255, 0, 0]],
            "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "channels": 3,
            "ignore_index": 255,
        },
    }  # fmt: skip
    save_checkpoint(checkpoint, folder / "model.pth")
    return folder


@pytest.fixture
def data(made, tmp_path):
    """A copy of the images that a test may damage."""
    for name in ("images", "masks"):
        shutil.copytree(made / name, tmp_path / "data" / name)
    return tmp_path / "data"


def damage(path):
    path.write_bytes(path.read_bytes()[:200])


def patched(program, patch, folder):
    """Write a program of which process 1 runs some code first; return its path."""
    script = folder / "patched.py"
    lines = "\n".join(f"    {line}" for line in patch.splitlines())
    script.write_text(WRAPPER.format(root=str(ROOT), program=program, patch=lines))
    return script


def on_many(script, processes, *words, folder):
    """Return exit code, standard output and error of a program on several processes."""
    done = run_program(script, processes, *words, "--device", "cpu", folder=folder)
    return done.returncode, done.stdout, done.stderr


def under_torchrun(script, processes, *words):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc-per-node={processes}", script, *words, "--device", "cpu",
    ]  # fmt: skip
    return subprocess.Popen(
        [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != NAME
    }


def skipped(err):
    return [line for line in err.splitlines() if "skipped" in line]


# --- inference.py


def predict(capsys, *words):
    """Exit code, standard output and failures of one process."""
    code = inference.main([*map(str, words), "--device", "cpu"])
    out, err = capsys.readouterr()
    return code, out, skipped(err)


@pytest.mark.slow
def test_feature_masks_are_those_of_one_process(made, data, tmp_path, capsys):
    """One is there already, two fail; and a process would find other files than the main one."""
    for index in (1, 2):  # one for each process
        damage(data / f"images/val/p{index}.png")
    # As where the disk of a network shows them late.
    late = (
        "import prediction.jobs.plan\n"
        "prediction.jobs.plan.is_done = lambda *_: False\n"
        "prediction.jobs.plan.find_images = None\n"
        "import prediction.predictor.network as used\n"
        "predict = used.Predictor.blocks\n"
        "used.Predictor.blocks = lambda *args: args[0].note(used.IN_WINDOWS) or predict(*args)"
    )
    few = [data / "images/val" / name for name in ("p6.png", "p2.png")]  # one process has none
    for processes, images in ((2, [data / "images"]), (3, few)):
        outputs = [tmp_path / f"{count} for {processes}" for count in (1, processes)]
        for out in outputs:
            (out / "val").mkdir(parents=True)
            for name in ("p3.png", "p3_overlay.png"):
                (out / "val" / name).write_text("mine")
        words = ["--model", made / "model.pth", "--images", *images, "--overlay", "--output"]
        code, said, failures = predict(capsys, *words, outputs[0])
        code_of_many, said_of_many, err = on_many(
            patched("inference", late, tmp_path), processes, *words, outputs[1], folder=tmp_path
        )
        assert (code, code_of_many) == (1, 1)
        said, said_of_many = (
            re.sub(r"[\d.]+ images/s", "5 images/s", t) for t in (said, said_of_many)
        )
        assert said_of_many == said.replace(str(outputs[0]), str(outputs[1]))
        assert sorted(skipped(err)) == sorted(failures)
        # What process 1 has noted, for it has a whole image among the many.
        assert err.count(IN_WINDOWS) == (processes == 2)
        assert contents(outputs[1]) == contents(outputs[0])
        if processes == 2:
            assert len(contents(outputs[0])) == 10
            assert said == (
                f"4 masks written to {outputs[0]} (mode multiscale, 5 images/s); 1 kept as they "
                "were (--overwrite replaces them); 2 images failed, named above\n"
            )
        else:
            assert (len(contents(outputs[0])), len(failures)) == (4, 1)


@pytest.mark.slow
def test_feature_an_interrupted_run_leaves_whole_masks(made, data, tmp_path, capsys):
    words = ["--model", made / "model.pth", "--images", data / "images", "--output"]
    assert predict(capsys, *words, tmp_path / "whole")[0] == 0
    expected = contents(tmp_path / "whole")
    slow = (
        "import prediction.predictor.network\n"
        "whole = prediction.predictor.network.Predictor.blocks\n"
        "def predict(*args):\n"
        "    time.sleep(1.5)\n"
        "    return whole(*args)\n"
        "prediction.predictor.network.Predictor.blocks = predict"
    )
    out = tmp_path / "out"
    process = under_torchrun(patched("inference", slow, tmp_path), 2, *words, out)
    until = time.monotonic() + PATIENCE
    while not list(out.rglob("p*.png")) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    found = {name: data for name, data in contents(out).items() if not name.endswith(".tmp")}
    assert 0 < len(found) < IMAGES, err
    assert found.items() <= expected.items()
    assert predict(capsys, *words, out)[0] == 0
    assert {name: contents(out)[name] for name in expected} == expected


@pytest.mark.slow
def test_exception_a_process_that_fails_ends_all(made, data, tmp_path):
    broken = (
        "import prediction.predictor.network\n"
        "def predict(*_):\n"
        "    raise SystemError('process 1 is broken')\n"
        "prediction.predictor.network.Predictor.blocks = predict"
    )
    words = ["--model", made / "model.pth", "--images", data / "images", "-o", tmp_path / "out"]
    script = patched("inference", broken, tmp_path)
    code, out, err = on_many(script, 2, *words, folder=tmp_path)
    assert code != 0
    assert err.count("SystemError: process 1 is broken") == 1
    assert out == ""


# --- evaluate.py


def report(path):
    """The JSON without what differs from run to run."""
    tree = json.loads(Path(path).read_text())
    return {key: tree[key] for key in tree if key not in ("seconds", "date", "command")}


def page(folder):
    """The page without time and day."""
    text = (folder / "index.html").read_text()
    for pattern in PASSING:
        text = re.sub(pattern, "", text)
    return text


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "mode"), [(2, "whole"), (3, "sliding")])
def test_feature_every_metric_is_that_of_one_process(
    made, data, tmp_path, capsys, monkeypatch, processes, mode
):
    """Counts, metrics, intervals, images, label errors, threshold, page; an image is broken."""
    damage(data / "images/val/p4.png")
    outputs = []
    for count in (1, processes):
        folder = tmp_path / str(count)
        folder.mkdir()
        shutil.copy(made / "model.pth", folder / "model.pth")
        words = [
            "--model", "model.pth", "--find-threshold", "--json", "out.json", "--report", "page",
            "--mode", mode, f"-oval_loader.args.data_dir={data}",
        ]  # fmt: skip
        monkeypatch.chdir(folder)
        if count == 1:
            code = evaluate.main([*words, "--device", "cpu"])
            out, err = capsys.readouterr()
        else:
            code, out, err = on_many(ROOT / "evaluate.py", count, *words, folder=folder)
        assert code == 1
        found = load_checkpoint(folder / "model.pth")["meta"]
        outputs.append((report("out.json"), page(folder / "page"), out, skipped(err), found))
    scores, text, said, failures, meta = outputs[0]
    assert len(scores["images"]) == IMAGES - 1 and scores["issues"]
    assert 0 < meta["threshold"] < 0.5
    assert len(failures) == 1 and "p4.png" in failures[0]
    assert "mean IoU" in said and "Best threshold" in said
    assert outputs[1][0] == scores
    assert outputs[1][1] == text
    assert outputs[1][2:] == (said, failures, meta)


def test_feature_failures_of_all_processes_count_as_one(made, data, tmp_path, capsys, monkeypatch):
    """What another process would report; here one image is broken, one too large."""
    damage(data / "images/val/p0.png")
    whole = evaluation.score_split.logits_of

    def one_fails(predictor, batch):
        for index, found in zip(batch.indices.tolist(), whole(predictor, batch), strict=True):
            yield "too large" if index == 1 else found

    monkeypatch.setattr(evaluation.score_split, "logits_of", one_fails)
    words = ["--model", str(made / "model.pth"), "-oval_loader.args.num_workers=0", "-d", "cpu"]
    words += [f"-oval_loader.args.data_dir={data}", "--json", "out.json"]
    monkeypatch.chdir(tmp_path)

    def run(bad, failed):
        (tmp_path / "out.json").unlink(missing_ok=True)

        def gathered(own):
            return [own, [bad, failed, [IN_WINDOWS], []]]

        monkeypatch.setattr(evaluation.score_split, "all_gather_json", gathered)
        return evaluate.main(words), capsys.readouterr().err

    code, err = run([], [[3, "p3.png: too large"]])
    assert code == 1
    assert re.findall(r"(p\d).png", "".join(skipped(err))) == ["p0", "p1", "p3"]
    assert [one["name"] for one in report("out.json")["skipped"]] == ["p0", "p1", "p3"]
    assert err.count(IN_WINDOWS) == 1
    assert any("overlapping windows" in note for note in report("out.json")["notes"])
    code, err = run([[3, "p3.png: broken"]], [])
    assert code == 2
    last = err.splitlines()[-1]
    assert last.startswith("error: 2 of 7 ") and "p3.png: broken" in last
    assert not Path("out.json").exists()


# --- Mistakes


@pytest.mark.slow
@pytest.mark.parametrize("program", ["evaluate", "inference"])
def test_exception_a_mistake_is_said_once(program, tmp_path):
    words = ["--model", "nowhere.pth", *(["-i", tmp_path] if program == "inference" else [])]
    code, out, err = on_many(ROOT / f"{program}.py", 2, *words, folder=tmp_path)
    assert (code, out) == (2, "")
    assert err.count("--model: there is no file nowhere.pth") == 1


@pytest.fixture
def torchrun(monkeypatch):
    """The environment of the first of two processes."""
    for name in ("RANK", "LOCAL_RANK", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")


@pytest.mark.parametrize("device", ["1", "cuda:0", "mps"])
def test_exception_one_device_for_all_processes(made, torchrun, capsys, device):
    words = ["--model", str(made / "model.pth"), "--device", device]
    assert evaluate.main(words) == 2
    assert inference.main([*words, "-i", str(made / "images")]) == 2
    assert capsys.readouterr().err.count("each process takes a GPU of its own") == 2


def test_exception_programs_that_share_no_work(torchrun, capsys):
    assert check.main([]) == 2
    assert convert.main(["split", "--images", "a", "--output", "b"]) == 2
    said = "error: this program runs in one process; leave out torchrun\n"
    assert capsys.readouterr() == ("", said * 2)

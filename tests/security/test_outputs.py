"""What the programs write: whole files, nothing replaced unasked, no link followed."""

import json
import os
import stat
import uuid

import numpy as np
import pytest
import torch
from PIL import Image

import audit.output
import check
import convert
import evaluate
import inference
import train
from tests.security.test_programs import LOADER, good, tree
from training.lr_curve import draw_rate_curve
from utils.checkpoint.save_load import save_checkpoint
from utils.drawing.palette import save_image, save_mask
from utils.files import atomic_write as new_file
from utils.files.atomic_write import write_text
from utils.samples import pair_cache

FOREIGN = b"somebody's own"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    return tmp_path


@pytest.fixture
def victim(tmp_path):
    """A file outside of every output, which links lead to."""
    path = tmp_path / "victim"
    path.write_bytes(FOREIGN)
    return path


# --- the writer itself


def test_feature_a_new_file_is_whole_or_not_there(folder):
    path = folder / "a.txt"
    with new_file.new_file(path) as file:
        file.write(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"
    with pytest.raises(FileExistsError, match=r"a\.txt already exists"):
        write_text(path, "new")
    assert path.read_bytes() == b"half"
    write_text(path, "new", overwrite=True)
    assert path.read_text() == "new"
    with pytest.raises(RuntimeError), new_file.new_file(path, overwrite=True) as file:
        file.write(b"never seen")
        raise RuntimeError
    assert os.listdir(folder) == ["a.txt"] and path.read_text() == "new"


def test_feature_what_comes_in_between_stays(folder):
    path = folder / "a.txt"
    with pytest.raises(FileExistsError, match="already exists"), new_file.new_file(path) as file:
        file.write(b"late")
        path.write_bytes(FOREIGN)
    assert path.read_bytes() == FOREIGN
    assert os.listdir(folder) == ["a.txt"]


def test_feature_without_links_in_the_file_system(folder, monkeypatch):
    def refuse(*args):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    write_text(folder / "a.txt", "1")
    with pytest.raises(FileExistsError):
        write_text(folder / "a.txt", "2")
    with pytest.raises(FileExistsError), new_file.new_file(folder / "b.txt"):
        (folder / "b.txt").write_bytes(FOREIGN)
    assert (folder / "a.txt").read_text() == "1" and (folder / "b.txt").read_bytes() == FOREIGN
    (folder / "link.txt").symlink_to(folder / "nowhere")
    with pytest.raises(FileExistsError):
        write_text(folder / "link.txt", "2")
    save_checkpoint({"state_dict": {}}, folder / "c.pth", copies=["d.pth"])
    assert (folder / "c.pth").read_bytes() == (folder / "d.pth").read_bytes()


@pytest.mark.parametrize("overwrite", [False, True])
def test_feature_no_link_is_followed(folder, victim, monkeypatch, overwrite):
    """Neither one under the final name nor one under the temporary name, should it be guessed."""
    (folder / "out.txt").symlink_to(victim)
    (folder / "nowhere.txt").symlink_to(folder / "made_by_link")
    for name in ("out.txt", "nowhere.txt"):
        if overwrite:
            write_text(folder / name, "new", overwrite=True)
            assert not (folder / name).is_symlink()
        else:
            with pytest.raises(FileExistsError):
                write_text(folder / name, "new")
            assert (folder / name).is_symlink()
    number = uuid.UUID(int=0)
    monkeypatch.setattr(uuid, "uuid4", lambda: number)
    planted = folder / f".{number.hex[:12]}.tmp"
    planted.symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_text(folder / "b.txt", "new", overwrite=overwrite)
    assert planted.is_symlink()  # not ours to remove
    assert victim.read_bytes() == FOREIGN
    assert not (folder / "made_by_link").exists()


# --- every writer


IDS = np.zeros((4, 4), np.uint8)


@pytest.mark.parametrize("write", [
    lambda path, **more: save_mask(path, IDS, [(0, 0, 0)], **more),
    lambda path, **more: save_image(path, np.dstack([IDS] * 3), **more),
], ids=["mask", "picture"])  # fmt: skip
def test_feature_masks_and_pictures(folder, victim, write):
    path = folder / "a.png"
    path.symlink_to(victim)
    with pytest.raises(FileExistsError):
        write(path)
    write(path, overwrite=True)
    assert Image.open(path).size == (4, 4)
    assert victim.read_bytes() == FOREIGN


def test_feature_curves_are_new_files(folder, victim):
    path = folder / "lr_finder.png"
    path.symlink_to(victim)
    values = np.array([1.0, 2.0])
    with pytest.raises(FileExistsError):
        draw_rate_curve(values, values, values, {}, "x", path)
    path.unlink()
    draw_rate_curve(values, values, values, {}, "x", path)
    assert Image.open(path).format == "PNG"
    assert victim.read_bytes() == FOREIGN


@pytest.mark.parametrize("name", ["config.json", "last.pth", "best_model.pth", "previous.pth"])
def test_feature_a_run_follows_no_link_in_its_folder(folder, victim, name):
    """A planted link is replaced, not written through; so is one under a name one could guess."""
    run = folder / "run"
    run.mkdir()
    (run / name).symlink_to(victim)
    (run / ".config.json.tmp").symlink_to(victim)
    write_text(run / "config.json", json.dumps(tree()), overwrite=True)
    for _ in range(2):
        names = {"copies": ["best_model.pth"], "previous": "previous.pth"}
        save_checkpoint({"state_dict": {}}, run / "last.pth", **names)
    assert victim.read_bytes() == FOREIGN
    assert not (run / name).is_symlink() or name == "previous.pth"
    assert json.loads((run / "config.json").read_text())["name"] == "x"


def test_feature_caches_follow_no_link(folder, victim):
    path = folder / "cache.npy"
    for write in (
        lambda: pair_cache._write(path, np.zeros(3)),
        lambda: new_file.keep(path, b"{}", "it is made again"),
    ):
        path.unlink(missing_ok=True)
        path.symlink_to(victim)
        write()
        assert not path.is_symlink() and victim.read_bytes() == FOREIGN


def test_feature_a_cache_that_is_not_ours_is_not_believed(folder):
    """Pickled objects are never loaded; other shapes and types are decoded anew."""
    (folder / "a.png").write_bytes(b"x")
    cache = pair_cache.DiskCache(folder / "cache", [[str(folder / "a.png")]], "rule")
    image, label = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)
    cache.put(0, image, label)
    assert cache.get(0) is not None
    image_path, label_path = cache._paths(0)

    class Evil:
        def __reduce__(self):
            return (open, (str(folder / "hacked"), "w"))

    evil = np.array([Evil()], dtype=object)
    np.save(image_path, evil, allow_pickle=True)
    assert cache.get(0) is None and not (folder / "hacked").exists()
    for other in (image[0], image[:2], image.astype(np.float64), np.zeros((4, 4, 3), "M8[s]")):
        np.save(image_path, other)
        assert cache.get(0) is None
    image_path.write_bytes(b"\x93NUMPY\x01\0\x10\0" + b"(" * 16)
    assert cache.get(0) is None
    np.save(image_path, image)
    np.save(label_path, label.astype(np.complex64))
    assert cache.get(0) is None


def test_feature_convert_replaces_nothing(folder, victim, capsys):
    """Masks and lists; a link counts as a file that is there."""
    for name in ("images", "masks"):
        (folder / "data" / name).mkdir(parents=True)
        for i in range(4):
            pixels = np.full((4, 4, 3)[: 2 + (name == "images")], i, np.uint8)
            Image.fromarray(pixels).save(folder / f"data/{name}/{i}.png")
    (folder / "lists").mkdir()
    (folder / "lists/train.txt").symlink_to(victim)
    command = ["split", "data", "--val", "0.25", "-o", "lists"]
    assert convert.main(command) == 2
    assert "already exist" in capsys.readouterr().err
    assert os.listdir(folder / "lists") == ["train.txt"]
    assert convert.main([*command, "--overwrite"]) == 0
    assert victim.read_bytes() == FOREIGN
    assert not (folder / "lists/train.txt").is_symlink()


# --- the programs


@pytest.fixture
def model(folder):
    torch.save(good(), folder / "c.pth")
    return "c.pth"


def test_feature_inference_leaves_what_is_there(folder, victim, model, capsys):
    (folder / "in").mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f"in/{name}.png")
    out = folder / "out"
    out.mkdir()
    (out / "a.png").write_bytes(FOREIGN)
    (out / "b_overlay.png").symlink_to(victim)
    (out / "b.png").symlink_to(folder / "made_by_link")
    command = ["-m", model, "-i", "in", "-o", "out", "-d", "cpu", "-mo", "whole", "--overlay"]
    assert inference.main(command) == 1  # the link that leads nowhere is neither followed nor lost
    assert (out / "a.png").read_bytes() == victim.read_bytes() == FOREIGN
    assert "b.png already exists" in capsys.readouterr().err
    assert not (folder / "made_by_link").exists()
    assert inference.main([*command, "--overwrite"]) == 0
    assert victim.read_bytes() == FOREIGN
    assert Image.open(out / "b.png").size == (8, 8)
    assert Image.open(out / "b_overlay.png").height > 8


EVALUATE = (evaluate, ["-m", "c.pth", "-d", "cpu"])
CHECK = (check, ["--no-step", "--workers", "1"])


@pytest.mark.parametrize(
    ("program", "option", "file"),
    [
        (EVALUATE, "--json", "out.json"), (EVALUATE, "--report", "index.html"),
        (CHECK, "--json", "out.json"), (CHECK, "--sheet", "contact_sheet.html"),
        (CHECK, "--sheet", "contact_sheet.png"),
    ],
)  # fmt: skip
def test_feature_reports_replace_their_own(folder, victim, model, capsys, program, option, file):
    (folder / "config.json").write_text(json.dumps(tree(val_loader=LOADER)))
    out = folder / "report" / file
    out.parent.mkdir()

    def call():
        main, words = program[0].main, program[1]
        return main([*words, option, str(out if option == "--json" else out.parent)])

    others = [lambda: out.write_bytes(FOREIGN), lambda: out.symlink_to(victim),
              lambda: out.symlink_to(folder / "made_by_link"), lambda: os.mkfifo(out),
              lambda: out.write_text("[" * 5000), lambda: out.write_text('["evaluate.py"]'),
        lambda: out.write_text('{"program": "other.py"}'),
              lambda: out.mkdir()]  # fmt: skip
    for plant in others:
        plant()
        capsys.readouterr()
        before = out.lstat()
        assert call() == 2
        message = capsys.readouterr().err
        assert "is not replaced" in message or "Is a directory" in message, message
        assert (out.lstat().st_ino, out.lstat().st_size) == (before.st_ino, before.st_size)
        assert victim.read_bytes() == FOREIGN and not (folder / "made_by_link").exists()
        if out.is_dir():
            out.rmdir()
        else:
            out.unlink()
    first = call()
    assert out.is_file() and first in (0, 2)
    inode = out.stat().st_ino
    assert call() == first
    assert out.stat().st_ino != inode  # its own is replaced, by renaming
    assert sorted(path.name for path in out.parent.glob(".*")) == []


def test_exception_a_report_is_not_written_in_place_of_a_device(capsys):
    """By renaming, root would replace the device itself."""
    with pytest.raises(ValueError, match="is not replaced"):
        audit.output.check_outputs("/dev/null", None)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_feature_a_resumed_run_writes_into_its_own_folder_only(folder, victim):
    """A checkpoint that was copied elsewhere gets a folder of its own, and nothing is truncated."""
    checkpoint = good()
    checkpoint["logs"] = {"victim": 0, "../victim": 0, "steps.jsonl": 0}
    (folder / "c.pth").write_bytes(b"")
    torch.save(checkpoint, folder / "c.pth")
    assert train.main(["--resume", "c.pth", "--device", "cpu"]) == 0
    assert victim.read_bytes() == FOREIGN
    assert sorted(path.name for path in folder.iterdir()) == ["c.pth", "saved", "victim"]

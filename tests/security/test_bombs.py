"""A file that claims a huge image is refused before memory is asked for."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convert
from tests import bombs
from tests.bad_files import KINDS
from tests.conftest import run_code
from utils.files.data_file import MAX_PIXELS, DataError
from utils.files.file_facts import file_facts
from utils.files.image_io import read_image, read_mask
from utils.files.mat_io import read_mat
from utils.files.raster_io import read_raster

MIB = 60  # that reading a file of a few bytes may take; an import on the way is part of it
HARMLESS = {"text.png"}  # the bomb is in a note that is not read
READERS = {"picture": read_image, "mask": read_mask, "bands": read_raster}

MEASURE = """
import contextlib, gc, pathlib, sys
from benchmarks.peak_memory import peak_memory
from utils.files.data_file import DataError
from utils.files.file_facts import file_facts
from utils.files.image_io import read_image, read_mask
from utils.files.mat_io import import_scipy, read_mat
from utils.files.raster_io import read_raster
import dataloaders.coco
import_scipy()

def sbd(path): return read_mat(path, "GTcls", "Segmentation")
def stuff(path): return read_mat(path, "S")

gc.freeze()  # what is there need not be looked through before each
for path in [path for folder in sys.argv[1:] for path in sorted(pathlib.Path(folder).iterdir())]:
    readers = (sbd, stuff) if path.suffix == ".mat" else (read_image, read_mask, read_raster,
                                                          file_facts)
    for read in readers:
        def attempt():
            with contextlib.suppress(DataError):
                read(path)
        print(read.__name__, path.name, peak_memory(attempt), flush=True)
"""


@pytest.mark.parametrize("name", bombs.PICTURES)
def test_exception_pictures_labels_and_bands(tmp_path, name):
    path = bombs.put(tmp_path, name, bombs.PICTURES[name]())
    for read in READERS.values():
        if name in HARMLESS:
            assert read(path).shape[:2] == (8, 8) if read is not read_raster else True
            continue
        with pytest.raises(DataError, match=re.escape(name)) as caught:
            read(path)
        assert "\n" not in str(caught.value)
    if name not in HARMLESS:
        assert path.stat().st_size < 5000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measures with /proc")
def test_feature_memory_stays_small(tmp_path):
    """Every reader on every bomb and on every odd or broken file, in one process."""
    folders = [tmp_path / name for name in ("bombs", "bad")]
    for folder in folders:
        folder.mkdir()
    for name, make in {**bombs.PICTURES, **bombs.MATS}.items():
        bombs.put(folders[0], name, make())
    for kind in KINDS:
        kind.put(folders[1])
    ran = run_code(MEASURE, *folders)
    assert ran.returncode == 0, ran.stderr[-2000:]
    lines = [line.split() for line in ran.stdout.splitlines()]
    there = len(list(folders[1].iterdir()))
    assert len(lines) == 4 * (len(bombs.PICTURES) + there) + 2 * len(bombs.MATS)
    assert there == len(KINDS) - 1  # one is a missing file
    assert not [line for line in lines if float(line[2]) > MIB]


@pytest.mark.parametrize("name", bombs.MATS)
def test_exception_matlab_files(tmp_path, name):
    path = bombs.put(tmp_path, name, bombs.MATS[name]())
    assert path.stat().st_size < 3_000_000
    for fields in (("S",), ("GTcls", "Segmentation")):
        with pytest.raises(DataError, match=re.escape(name)):
            read_mat(path, *fields)


def run(*words):
    return convert.main([str(word) for word in words])


@pytest.mark.parametrize("name", bombs.COCO)
def test_exception_coco_annotations(tmp_path, capsys, name):
    source = bombs.put(tmp_path, "i.json", bombs.COCO[name]())
    assert run("coco", source, "-o", tmp_path / "masks") == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not list(tmp_path.glob("masks/*"))


@pytest.mark.parametrize("name", bombs.LABELME)
def test_exception_labelme_files(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    bombs.put(tmp_path / "in", "a.json", bombs.LABELME[name]())
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda *words, **_: started.append(words))
    assert run("labelme", tmp_path / "in", "-o", tmp_path / "out") == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not started  # Pillow would have Ghostscript draw PostScript
    assert not list(Path(tmp_path).glob("out/*"))


def test_feature_large_pictures_that_are_there_are_read(tmp_path):
    """The limits are of claims: an image as large as it says is no bomb."""
    path = tmp_path / "large.png"
    Image.fromarray(np.zeros((6000, 6000), np.uint8)).save(path)
    assert read_mask(path).shape == (6000, 6000)
    assert file_facts(path).width * 6000 < MAX_PIXELS

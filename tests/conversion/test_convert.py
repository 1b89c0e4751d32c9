"""convert.py as a program, and the same work on several processes."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest

from conversion.masks import Legend, MaskJob, write_masks
from conversion.parallel import run_each
from conversion.split_lists import count_classes
from tests.conftest import ROOT
from tests.conversion.calls import save


def test_smoke_help_is_light():
    code = (
        "import sys, convert\n"
        "for words in [], ['coco'], ['labelme'], ['colours'], ['split']:\n"
        "    try: convert.main([*words, '--help'])\n"
        "    except SystemExit as end: assert not end.code\n"
        "sys.exit(bool({'torch', 'numpy', 'cv2', 'PIL'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("usage:") == 5


def as_program(*words, **more):
    command = [sys.executable, ROOT / "convert.py", *words]
    return subprocess.run(command, stderr=subprocess.PIPE, **more)


def test_feature_names_of_any_letters(tmp_path):
    """A name that is not UTF-8, and letters that the output cannot show."""
    name = os.fsdecode(b"caf\xe9_1.png")
    save(tmp_path / "masks/a.png", np.uint8([[0]]))
    try:
        (tmp_path / "masks/a.png").rename(tmp_path / "masks" / name)
    except OSError:
        pytest.skip("this file system refuses such names")
    words = ["colours", "masks", "-o", "\u732b", "--palette", "wei\u00df\u732b=0,0,0"]
    for encoding, shown in (("utf-8", "wei\u00df\u732b"), ("latin-1", r"wei\u00df\u732b")):
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        more = {"cwd": tmp_path, "env": environment, "stdout": subprocess.PIPE}
        result = as_program(*words, "--overwrite", **more)
        assert (result.returncode, result.stderr) == (0, b"")
        assert f'"classes": ["{shown}"]' in result.stdout.decode(encoding)
    assert os.listdir(tmp_path / "\u732b") == [name]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / name).write_bytes(b"")
    (tmp_path / "images/b.png").write_bytes(b"")
    save(tmp_path / "masks/b.png", np.uint8([[0]]))
    result = as_program("split", ".", "-o", "lists", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count(b"\n") == 1
    assert rb"caf\udce9_1.png': a name that is not UTF-8" in result.stderr
    assert not (tmp_path / "lists").exists()


def test_feature_reader_that_stops_is_no_error(tmp_path):
    save(tmp_path / "masks/a.png", np.uint8([[0]]))
    reader, writer = os.pipe()
    os.close(reader)
    for unbuffered in ("", "1"):  # the rest comes at the end, or each line at once
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        words = ["colours", "masks", "--list"]
        result = as_program(*words, cwd=tmp_path, env=environment, stdout=writer)
        assert (result.returncode, result.stderr) == (141, b"")
    os.close(writer)


def test_feature_processes_change_nothing(tmp_path, capsys):
    """Against the number of zeros that each mask was made with."""
    for i in range(9):
        save(tmp_path / f"{i}.png", np.repeat(np.uint8([[0, 1]]), [i + 1, 2], axis=1))
    (tmp_path / "4.png").write_bytes(b"")
    items = {str(i): str(tmp_path / f"{i}.png") for i in (3, 1, 4, 0, 8, 2)}
    outputs = []
    for processes in (1, 2):
        found = run_each(count_classes, items, processes=processes)
        assert list(found) == ["3", "1", "0", "8", "2"]
        assert found == {name: {"0": int(name) + 1, "1": 2} for name in found}
        outputs.append(capsys.readouterr().err)
    assert outputs[0] == outputs[1]
    assert "skipped 4: " in outputs[0]


def test_exception_process_that_dies(tmp_path):
    job = MaskJob("a", tmp_path / "a.png", functools.partial(os._exit, 1))
    with pytest.raises(ValueError, match="process was killed"):
        write_masks([job], Legend(("a",)), overwrite=False, processes=2)

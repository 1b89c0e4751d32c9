"""convert.py colours: masks of colours become masks of ids."""

import re

import numpy as np
import pytest
from PIL import Image

from tests.conversion.calls import dump, files, pixels, printed_arguments, run, save, some_ids

COLOURS = np.array([[0, 0, 255], [255, 0, 0], [1, 2, 3]], np.uint8)
PALETTE = ["water=0,0,255", "fire=255,0,0", "__ignore__=1,2,3"]


def test_feature_to_ids(tmp_path, capsys):
    """RGB, RGBA and palette images, against the ids that they were painted from."""
    folder, ids = tmp_path / "in", [some_ids(i) for i in range(3)]
    save(folder / "a.0.png", COLOURS[ids[0]])
    save(folder / "sub/b.tif", np.dstack([COLOURS[ids[1]], np.full((8, 10), 9, np.uint8)]))
    indexed = Image.fromarray((2 - ids[2]).astype(np.uint8), "P")
    indexed.putpalette(COLOURS[::-1].tobytes())
    indexed.save(folder / "c.png")
    assert run("colours", folder, "--output", tmp_path / "out", "--palette", *PALETTE) == 0
    for name, expected in zip(("a.0.png", "sub/b.png", "c.png"), ids, strict=True):
        expected = np.where(expected == 2, 255, expected)
        assert np.array_equal(pixels(tmp_path / "out" / name), expected)
    arguments = printed_arguments(capsys.readouterr().out)
    assert arguments["classes"] == ["water", "fire"]
    assert arguments["palette"] == [(0, 0, 255), (255, 0, 0)]


def test_feature_palette_files(tmp_path):
    ids = some_ids(0, classes=2)
    save(tmp_path / "in/1_gt.png", COLOURS[ids])
    save(tmp_path / "in/1.png", COLOURS[some_ids(1)])
    named = {"water": [0, 0, 255], "fire": [255, 0, 0]}
    for name, palette in (("a", named), ("b", COLOURS[:2].tolist())):
        path = dump(tmp_path / f"{name}.json", palette)
        options = ["--palette", path, "--mask-suffix", "_gt"]
        assert run("colours", tmp_path / "in", "-o", tmp_path / name, *options) == 0
        assert files(tmp_path / name) == ["1.png"]
        assert np.array_equal(pixels(tmp_path / name / "1.png"), ids)


def test_exception_unknown_and_smoothed(tmp_path, capsys):
    image = COLOURS[some_ids(0, (16, 16))]
    save(tmp_path / "in/good.png", image)
    odd = image.copy()
    odd[2:4, 3:6] = (250, 5, 5)
    save(tmp_path / "in/odd.png", odd)
    smooth = Image.fromarray(image).resize((31, 33), Image.Resampling.BILINEAR)
    smooth.save(tmp_path / "in/smooth.png")
    smooth.save(tmp_path / "in/text.png", "JPEG")
    assert run("colours", tmp_path / "in", "-o", tmp_path / "out", "--palette", *PALETTE) == 2
    assert files(tmp_path / "out") == ["good.png"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert re.search(r"odd\.png: .*\(250, 5, 5\) on 6 pixels \(nearest: fire", lines[0])
    assert re.search(r"smooth\.png: \d+ colours .*anti-aliasing", lines[1])
    assert "text.png: is a JPEG" in lines[2]


def test_exception_jpeg_masks_are_named(tmp_path, capsys):
    """A GIF is read where Pillow writes it without loss; an image beside its mask is not a mask."""
    ids = some_ids(0)
    (tmp_path / "in").mkdir()
    save(tmp_path / "in/a.png", COLOURS[ids])
    for name in ("a.jpg", "b.jpg", "c.JPEG"):
        Image.fromarray(COLOURS[ids]).save(tmp_path / "in" / name, "JPEG")
    indexed = Image.fromarray(ids.astype(np.uint8), "P")
    indexed.putpalette(COLOURS.tobytes())
    indexed.save(tmp_path / "in/d.gif")
    Image.fromarray(COLOURS[ids]).save(tmp_path / "in/e.webp", lossless=False)
    for options in (["--palette", *PALETTE, "-o", tmp_path / "out"], ["--list"]):
        assert run("colours", tmp_path / "in", *options) == 2
        lines = capsys.readouterr().err.splitlines()
        assert [re.search(r"(\w\.\w+): is a (\w+ \w+|\w+),", line)[1] for line in lines] == [
            "b.jpg", "c.JPEG", "e.webp",
        ]  # fmt: skip
    assert files(tmp_path / "out") == ["a.png", "d.png"]
    for name in ("a", "d"):
        assert np.array_equal(pixels(tmp_path / f"out/{name}.png"), np.where(ids == 2, 255, ids))


def test_exception_nothing_of_that_suffix(tmp_path, capsys):
    save(tmp_path / "in/sub/a_gt.png", COLOURS[some_ids(0)])
    output = tmp_path / "out"
    for options in (["--palette", *PALETTE, "-o", output], ["--list"]):
        assert run("colours", tmp_path / "in", "--mask-suffix", "_x", *options) == 2
        captured = capsys.readouterr()
        assert re.search(r"in: .*'_x'.* a_gt\.png$", captured.err)
        assert not captured.out
    (tmp_path / "empty").mkdir()
    for folder, message in (("empty", "contains no image"), ("in/su", "no such folder")):
        assert run("colours", tmp_path / folder, "--list") == 2
        assert message in capsys.readouterr().err
    assert not output.exists()


def test_feature_list(tmp_path, capsys):
    ids = [some_ids(0), some_ids(1, classes=2)]
    for i, values in enumerate(ids):
        save(tmp_path / f"in/{i}.png", COLOURS[values])
    assert run("colours", tmp_path / "in", "--list") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    found = {row[0]: (int(row[1]), int(row[-1])) for row in rows}
    assert found == {
        ",".join(map(str, COLOURS[i])): (sum((v == i).sum() for v in ids), 1 if i == 2 else 2)
        for i in range(3)
    }
    assert [int(row[1]) for row in rows] == sorted((int(row[1]) for row in rows), reverse=True)
    assert files(tmp_path) == ["in/0.png", "in/1.png"]


@pytest.mark.parametrize(
    ("palette", "message"),
    [
        (["a=1,2,3", "a=1,2,4"], "--palette: duplicate 'a'"),
        (["a=1,2,3", "b=1,2,3"], r"--palette: duplicate '\(1, 2, 3\)'"),
        (["a=1,2,300"], "a=128,64,128, not 'a=1,2,300'"),
        (["a=1,2"], "not 'a=1,2'"),
        (["a=1,2,3", "red"], "not 'red'"),
        (["__ignore__=1,2,3"], "names no class"),
        (["no.json"], "no.json: no such file"),
        ([], "--palette is missing"),
    ],
)
def test_exception_palette(tmp_path, capsys, palette, message):
    save(tmp_path / "in/a.png", COLOURS[some_ids(0)])
    options = ["--palette", *palette] if palette else []
    assert run("colours", tmp_path / "in", "-o", tmp_path / "out", *options) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_exception_outputs(tmp_path, capsys):
    folder, palette = tmp_path / "in", ["--palette", *PALETTE]
    save(folder / "a.png", COLOURS[some_ids(0)])
    for output, verb in ((folder, "is"), (folder / "deep/out", "lies in")):
        assert run("colours", folder, "-o", output, *palette) == 2
        assert f"{verb} the folder of the input" in capsys.readouterr().err
    assert run("colours", folder, "-o", folder / "a.png", *palette) == 2
    assert "is a file, not a folder" in capsys.readouterr().err
    save(folder / "a.bmp", COLOURS[some_ids(1)])
    assert run("colours", folder, "-o", tmp_path / "out", *palette) == 2
    assert "have the same stem" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_feature_existing_masks_stay_unless_asked(tmp_path, capsys):
    folder, output = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b"):
        save(folder / f"{name}.png", COLOURS[some_ids(0, classes=2)])
    save(output / "b.png", np.zeros((1, 1), np.uint8))
    command = ["colours", folder, "-o", output, "--palette", *PALETTE]
    assert run(*command) == 2
    assert "1 of the files" in capsys.readouterr().err
    assert files(output) == ["b.png"]
    assert pixels(output / "b.png").shape == (1, 1)
    assert run(*command, "--overwrite") == 0
    assert np.array_equal(pixels(output / "b.png"), some_ids(0, classes=2))


def test_feature_real_masks_equal_their_ids(tmp_path, real_data):
    """The data has the same labels as ids beside the colours."""
    names = ["other", "building", "lawn", "shrub", "water", "road", "ground", "vehicle", "land"]
    values = ["0,0,0", "0,0,255", "0,255,0", "0,128,0", "0,255,255", "255,255,0", "255,255,255",
              "255,0,255", "128,128,128"]  # fmt: skip
    folder = real_data / "gf2_layout/sat/valid"
    palette = [f"{name}={value}" for name, value in zip(names, values, strict=True)]
    options = ["--mask-suffix", "_gt", "--palette", *palette]
    assert run("colours", folder / "img", "-o", tmp_path, *options) == 0
    assert files(tmp_path) == ["439.png", "440.png"]
    for name in ("439", "440"):
        expected = pixels(folder / f"lbl/{name}_gt.png")
        assert np.array_equal(pixels(tmp_path / f"{name}.png"), expected)

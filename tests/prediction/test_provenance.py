"""Products of one image never come from two models, or from two sets of options."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from prediction.provenance import NAME
from tests.prediction.program import run, write_image, written
from tests.prediction.test_video import moving_frames, write_video


@pytest.fixture
def images(folder):
    for number in range(3):
        write_image(folder / f"{number}.png", (40, 30), seed=number)
    return folder


@pytest.fixture
def other_model(model_file, tmp_path):
    content = torch.load(model_file, weights_only=True)
    content["state_dict"]["final_conv.weight"] *= -1
    torch.save(content, tmp_path / "other.pth")
    return tmp_path / "other.pth"


def table_of(folder):
    rows = csv.DictReader(Path(folder, "table.csv").read_text().splitlines())
    return {(row["image"], row["class"]): int(row["pixels"]) for row in rows}


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--flip", "both"], "no --flip instead of --flip both"),
     (["--unsure", "0.9"], "no --unsure instead of --unsure 0.9"),
     (["--mode", "sliding"], "--mode whole instead of --mode sliding"), ([], "by another model")],
)  # fmt: skip
def test_exception_new_products_beside_old_ones(
    model_file, other_model, images, capsys, words, said
):
    assert run(model_file, "-i", images) == 0
    before = {name: Path("outputs", name).read_bytes() for name in written(Path("outputs"))}
    model = model_file if words else other_model
    assert run(model, "-i", images, "--save", "ids,table", *words) == 2
    err = capsys.readouterr().err
    assert said in err and "outputs/0.png was made otherwise" in err and "--overwrite" in err
    assert {n: Path("outputs", n).read_bytes() for n in written(Path("outputs"))} == before
    # As the message says: everything anew, and the table says what the masks say.
    assert run(model, "-i", images, "--save", "ids,table", "--overwrite", *words) == 0
    for name in "012":
        ids = np.array(Image.open(f"outputs/{name}.png"))
        for number, label in enumerate(("sky", "road", "tree")):
            assert table_of("outputs")[f"{name}.png", label] == (ids == number).sum()
    # What was made before it counts no more.
    capsys.readouterr()
    assert run(model, "-i", images, "--save", "ids,table,confidence", *words) == 0
    assert "otherwise" not in capsys.readouterr().err


def test_feature_kept_products_are_noted(model_file, images, capsys):
    write_image(images / "new.png")
    (images / "new.png").rename("new.png")
    assert run(model_file, "-i", images) == 0
    assert "note" not in capsys.readouterr().err
    Path("new.png").rename(images / "new.png")
    assert run(model_file, "-i", images, "--flip", "both") == 0
    err = capsys.readouterr().err
    assert "note: 3 products are kept that were made otherwise" in err
    assert "no --flip instead of --flip both" in err
    assert "new.png" in written(Path("outputs"))


def test_feature_the_same_run_with_more_products(model_file, images, capsys):
    assert run(model_file, "-i", images) == 0
    assert run(model_file, "-i", images, "--save", "ids,confidence") == 0
    assert "otherwise" not in capsys.readouterr().err
    (one,) = json.loads(Path("outputs", NAME).read_text())["runs"]
    assert ".png" in one["endings"] and "_confidence.png" in one["endings"]


@pytest.mark.parametrize("save", ["polygons,table", "confidence", "table", "ids.npy"])
@pytest.mark.parametrize("extra", [(), ("--manifest", "m.csv"), ("--overwrite",)])
def test_exception_other_products_than_before(model_file, other_model, images, capsys, save, extra):
    """Also those that this run does not ask for."""
    assert run(model_file, "-i", images, *extra) == 0
    assert run(other_model, "-i", images, "--save", save, *extra) == 2
    assert "outputs/0.png was made otherwise (by another model)" in capsys.readouterr().err
    assert written(Path("outputs")) == ["0.png", "1.png", "2.png"]


def test_exception_masks_beside_another_table(model_file, other_model, images, capsys):
    assert run(model_file, "-i", images / "0.png", "--save", "table,summary") == 0
    assert run(other_model, "-i", images) == 2
    assert "table.csv was made otherwise" in capsys.readouterr().err
    (images / "0.png").unlink()  # of other images it may be
    assert run(other_model, "-i", images) == 0


def test_exception_one_image_was_made_anew(model_file, other_model, images, capsys):
    """What was not replaced is still that of the first model."""
    assert run(model_file, "-i", images) == 0
    assert run(other_model, "-i", images / "1.png", "--overwrite") == 0
    words = ["--save", "ids,confidence"]
    assert run(other_model, "-i", images / "1.png", *words) == 0
    assert run(other_model, "-i", images, *words) == 2
    assert "outputs/0.png was made otherwise" in capsys.readouterr().err
    assert run(other_model, "-i", images, *words, "--overwrite") == 0
    assert run(other_model, "-i", images, "--save", "ids,confidence,entropy") == 0


def test_exception_frames_of_a_video(model_file, other_model, folder, capsys):
    video = write_video(folder / "street.mp4", moving_frames(4, 64, 48))
    assert run(model_file, "-i", video, "--save", "ids") == 0
    for words in (["--save", "ids,overlay"], ["--save", "confidence", "--overwrite"], []):
        assert run(other_model, "-i", video, *words) == 2
        assert "street/000000.png was made otherwise" in capsys.readouterr().err
    assert run(other_model, "-i", video, "--save", "ids,overlay", "--overwrite") == 0
    assert run(other_model, "-i", video, "--save", "ids,overlay,confidence") == 0


def test_feature_a_manifest_makes_anew_what_it_names(model_file, other_model, images):
    assert run(model_file, "-i", images, "--manifest", "m.csv") == 0
    words = ["-i", images, "--manifest", "m.csv", "--save", "ids,table"]
    before = Path("outputs/0.png").read_bytes()
    assert run(other_model, *words) == 0
    assert Path("outputs/0.png").read_bytes() != before


def test_feature_a_manifest_keeps_track_of_products(model_file, images):
    """Those that one run does not ask for stay in it, and are no foreign files to the next."""
    for save in ("ids", "polygons", "ids,polygons", "ids"):
        assert run(model_file, "-i", images, "--manifest", "m.csv", "--save", save) == 0
    rows = list(csv.DictReader(Path("m.csv").read_text().splitlines()))
    assert all("0.png" in row["products"] for row in rows if row["path"] == "0.png")
    assert all("0.geojson" in row["products"] for row in rows if row["path"] == "0.png")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"runs": 3}', '{"runs": [{"models": 1}]}'])
def test_edge_a_note_that_cannot_be_read_says_nothing(model_file, images, text):
    Path("outputs").mkdir()
    Path("outputs", NAME).write_text(text)
    assert run(model_file, "-i", images) == 0
    assert json.loads(Path("outputs", NAME).read_text())["runs"][0]["options"]["flip"] is None


def test_exception_standard_input(model_file, images, capsys, monkeypatch):
    def given(*names):
        lines = "".join(f"{images}/{name}\n" for name in names)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))

    given("0.png")
    assert run(model_file, "-i", "-") == 0
    given("0.png", "1.png")
    assert run(model_file, "-i", "-", "--flip", "both", "--save", "ids,confidence") == 1
    err = capsys.readouterr().err
    assert f"skipped {images}/0.png: outputs/" in err and "was made otherwise (no --flip" in err
    assert [Path(name).name for name in written(Path("outputs"))] == [
        "0.png", "1.png", "1_confidence.png"
    ]  # fmt: skip
    given("0.png")
    assert run(model_file, "-i", "-", "--flip", "both") == 0
    assert "note: 1 product is kept" in capsys.readouterr().err

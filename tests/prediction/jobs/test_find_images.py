"""Which images inference.py predicts, and the names of their masks."""

import re
from pathlib import Path

import pytest
import torch

from tests.prediction.program import run, write_image, written

# Files, what --images names, and the masks.
TREES = {
    "stems": ("im.0.jpg U.JPG b.c.Png übung.jpeg", ".", "U.png b.c.png im.0.png übung.png"),
    "folders": ("x.jpg l/x.jpg l/deep.er/x.jpg", ".", "l/deep.er/x.png l/x.png x.png"),
    "no images": ("a.jpg .hidden.jpg .cache/b.jpg notes.txt folder.jpg/b.txt", ".", "a.png"),
    "extension": ("a.jpg a.png B.PNG", ". -e png", "B.png a.png"),
    "with a dot": ("a.jpg a.png B.PNG", ". -e .png", "B.png a.png"),
    "in capitals": ("a.jpg a.png B.PNG", ". -e PNG", "B.png a.png"),
    "with a star": ("a.jpg a.png B.PNG", ". -e *.png", "B.png a.png"),
    "one file of any extension": ("a.photo", "a.photo", "a.png"),
    "pattern": ("one/a1.jpg one/b1.jpg two/a2.jpg two/a.txt", "*/a*", "one/a1.png two/a2.png"),
    "deep pattern": ("one/a1.jpg one/b1.jpg two/a2.jpg", "**/b*.jpg", "one/b1.png"),
    "expanded by the shell": ("a.jpg b.jpg", "a.jpg b.jpg", "a.png b.png"),
    "brackets": ("set[1]/a.jpg", "set[1]", "a.png"),
}


class TestNames:
    @pytest.mark.parametrize("tree", TREES)
    def test_feature_images_and_masks(self, model_file, folder, monkeypatch, tree):
        names, words, masks = (text.split() for text in TREES[tree])
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".txt"):
                (folder / name).touch()
            else:
                write_image(folder / f"{name}.png").rename(folder / name)
        monkeypatch.chdir(folder)
        assert run(model_file, "-i", *words, "-o", folder.parent / "out") == 0
        assert written(folder.parent / "out") == masks

    def test_feature_links(self, model_file, folder, tmp_path):
        write_image(tmp_path / "elsewhere" / "a.jpg")
        (folder / "link").symlink_to(tmp_path / "elsewhere")
        (folder / "link" / "loop").symlink_to(folder)
        assert run(model_file, "-i", folder) == 0
        assert written(Path("outputs")) == ["link/a.png"]

    @pytest.mark.parametrize("source", [".", "*", "**/*"])
    def test_feature_own_masks_are_no_images(self, model_file, folder, monkeypatch, source):
        monkeypatch.chdir(folder)
        write_image(folder / "a.jpg")
        for _ in range(2):
            assert run(model_file, "-i", source, "-o", "masks", "--overlay") == 0
            assert written(folder / "masks") == ["a.png", "a_overlay.png"]

    def test_feature_images_below_the_output(self, model_file, folder):
        write_image(folder / "raw" / "a.jpg")
        assert run(model_file, "-i", folder / "raw", "-o", folder) == 0
        assert run(model_file, "-i", folder / "raw" / "*.jpg", "-o", folder) == 0
        assert written(folder) == ["a.png", "raw/a.jpg"]


class TestLeftOut:
    """Masks that stand beside the images, and what `--exclude` names."""

    @pytest.fixture
    def suffix_file(self, model_file, tmp_path):
        """A checkpoint of a training whose masks were called `mask_1_gt.png`, or so."""

        def make(**meta):
            checkpoint = torch.load(model_file, weights_only=True)
            path = tmp_path / "suffix.pth"
            torch.save({**checkpoint, "meta": {**checkpoint["meta"], **meta}}, path)
            return path

        return make

    def test_feature_masks_of_the_training(self, suffix_file, folder, capsys):
        for name in ("1.jpg", "2.png", "deep/3.png", "1_gt.png", "2_gt.png", "deep/3_gt.PNG"):
            write_image(folder / name)
        model = suffix_file(mask_suffix="_gt")
        for source in ([folder], [f"{folder}/**/*"], sorted(folder.glob("?*.*"))):
            assert run(model, "-i", *source, "-o", f"out{len(source)}", "--overwrite") == 0
            assert not any("_gt" in name for name in written(Path(f"out{len(source)}")))
            (line,) = [x for x in capsys.readouterr().err.splitlines() if "left out" in x]
            assert "*_gt" in line and re.search(r"left out [23] images", line)
        # Who names them gets them.
        assert run(model, "-i", folder / "1_gt.png", "-o", "one") == 0
        assert written(Path("one")) == ["1_gt.png"]
        assert run(model, "-i", f"{folder}/*_gt.png", "-o", "named") == 0
        assert written(Path("named")) == ["1_gt.png", "2_gt.png"]
        assert "left out" not in capsys.readouterr().err

    def test_feature_prefix_and_suffix(self, suffix_file, folder, capsys):
        for name in ("1.png", "m_1_x.png", "m_1.png", "1_x.png", "m_x.png"):
            write_image(folder / name)
        assert run(suffix_file(mask_suffix="_x", mask_prefix="m_"), "-i", folder) == 0
        assert written(Path("outputs")) == ["1.png", "1_x.png", "m_1.png", "m_x.png"]
        assert "1 image that is named m_*_x" in capsys.readouterr().err

    def test_exception_nothing_but_masks(self, suffix_file, folder, capsys):
        write_image(folder / "1_gt.png")
        assert run(suffix_file(mask_suffix="_gt"), "-i", folder) == 2
        assert "'FOLDER/*_gt.*'" in capsys.readouterr().err
        assert not Path("outputs").exists()

    def test_feature_exclude(self, model_file, folder, capsys):
        for name in ("a.jpg", "a_mask.png", "masks/b.png", "deep/masks/c.png", "deep/d.jpg"):
            write_image(folder / name)
        words = ["--exclude", "*_mask.*", "--exclude", "masks/", "--exclude", "*.gif"]
        assert run(model_file, "-i", folder, *words) == 0
        assert written(Path("outputs")) == ["a.png", "deep/d.png"]
        err = capsys.readouterr().err
        assert "--exclude *_mask.* leaves out 1 image" in err
        assert "--exclude masks/ leaves out 2 images" in err
        assert "--exclude *.gif leaves out 0 images" in err
        words = ["--exclude", "deep/m*", "--exclude", "a*"]
        assert run(model_file, "-i", folder, "-o", "out", *words) == 0
        assert written(Path("out")) == ["deep/d.png", "masks/b.png"]
        # What is left out is no other image's namesake.
        write_image(folder / "a.png")
        assert run(model_file, "-i", folder, "-o", "out2") == 2
        assert run(model_file, "-i", folder, "-o", "out2", "--exclude", "*.png") == 0
        assert written(Path("out2")) == ["a.png", "deep/d.png"]

    def test_exception_exclude_everything(self, model_file, folder, capsys):
        write_image(folder / "a.jpg")
        assert run(model_file, "-i", folder, "--exclude", "*") == 2
        assert "--exclude: nothing is left of the 1" in capsys.readouterr().err

"""Which images inference.py predicts, and the names of their masks."""

import re
from pathlib import Path

import pytest
import torch

from tests.prediction.test_inference import run, write_image, written


class TestNames:
    def test_feature_whole_stem(self, model_file, folder):
        names = [f"im.{i}.jpg" for i in range(3)] + ["UPPER.JPG", "b.c.Png", "übung 1.jpeg"]
        for name in names:
            write_image(folder / name)
        assert run(model_file, "-i", folder) == 0
        expected = ["UPPER.png", "b.c.png", "im.0.png", "im.1.png", "im.2.png", "übung 1.png"]
        assert written(Path("outputs")) == expected

    def test_feature_structure_is_kept(self, model_file, folder):
        write_image(folder / "x.jpg")
        write_image(folder / "left" / "x.jpg")
        write_image(folder / "left" / "deep.er" / "x.jpg")
        assert run(model_file, "-i", folder) == 0
        assert written(Path("outputs")) == ["left/deep.er/x.png", "left/x.png", "x.png"]

    def test_feature_what_is_no_image_is_left_out(self, model_file, folder):
        write_image(folder / "a.jpg")
        write_image(folder / ".hidden.jpg")
        write_image(folder / ".cache" / "b.jpg")
        (folder / "notes.txt").write_text("x")
        (folder / "folder.jpg").mkdir()
        assert run(model_file, "-i", folder) == 0
        assert written(Path("outputs")) == ["a.png"]

    def test_feature_links(self, model_file, folder, tmp_path):
        write_image(tmp_path / "elsewhere" / "a.jpg")
        (folder / "link").symlink_to(tmp_path / "elsewhere")
        (folder / "link" / "loop").symlink_to(folder)
        assert run(model_file, "-i", folder) == 0
        assert written(Path("outputs")) == ["link/a.png"]

    @pytest.mark.parametrize("extension", ["png", ".png", "PNG", "*.png"])
    def test_feature_extension(self, model_file, folder, extension):
        write_image(folder / "a.jpg")
        write_image(folder / "a.png")
        write_image(folder / "B.PNG")
        assert run(model_file, "-i", folder, "-e", extension) == 0
        assert written(Path("outputs")) == ["B.png", "a.png"]

    def test_feature_one_file(self, model_file, folder):
        """Its extension does not matter, as it was named."""
        source = write_image(folder / "a.jpg").rename(folder / "a.photo")
        assert run(model_file, "-i", source) == 0
        assert written(Path("outputs")) == ["a.png"]

    def test_feature_pattern(self, model_file, folder):
        for name in ("one/a1.jpg", "one/b1.jpg", "two/a2.jpg", "two/a.txt"):
            write_image(folder / name) if name.endswith("jpg") else (folder / name).touch()
        assert run(model_file, "-i", folder / "*" / "a*") == 0
        assert written(Path("outputs")) == ["one/a1.png", "two/a2.png"]
        assert run(model_file, "-i", folder / "**" / "b*.jpg", "-o", "deep") == 0
        assert written(Path("deep")) == ["one/b1.png"]

    def test_feature_pattern_that_the_shell_expanded(self, model_file, folder):
        images = [write_image(folder / name) for name in ("a.jpg", "b.jpg")]
        assert run(model_file, "-i", *images) == 0
        assert written(Path("outputs")) == ["a.png", "b.png"]

    def test_feature_brackets_in_a_folder_name(self, model_file, folder):
        write_image(folder / "set[1]" / "a.jpg")
        assert run(model_file, "-i", folder / "set[1]") == 0
        assert written(Path("outputs")) == ["a.png"]

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
        assert (
            run(model_file, "-i", folder, "-o", "out", "--exclude", "deep/m*", "--exclude", "a*")
            == 0
        )
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

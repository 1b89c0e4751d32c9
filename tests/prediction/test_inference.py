import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dataloaders
import inference
import models
from prediction.predictor import network
from tests.prediction.conftest import CLASSES
from tests.prediction.program import run, without_rate, write_image, written
from utils.checkpoint.content import as_checkpoint
from utils.cli.choices import MODES
from utils.drawing.overlay import draw_overlay
from utils.drawing.palette import colorize, voc_palette
from utils.runs.last_score import last_score


def score_of(content):
    return last_score(as_checkpoint({"state_dict": {}, **content}, "a.pth"))


class TestSmoke:
    @pytest.mark.parametrize("mode", MODES)
    def test_smoke(self, model_file, folder, capsys, mode):
        write_image(folder / "a.jpg")
        write_image(folder / "b.png", (14, 50))
        code = run(model_file, "-i", folder, "-o", "out/new", "--mode", mode, "--overlay")
        assert code == 0
        names = ["a.png", "a_overlay.png", "b.png", "b_overlay.png"]
        assert written(Path("out/new")) == names
        last = capsys.readouterr().out.splitlines()[-1]
        assert re.fullmatch(rf"2 masks written to out/new \(mode {mode}, [\d.]+ images/s\)", last)

    def test_feature_defaults(self, model_file, folder):
        write_image(folder / "a.jpg")
        assert inference.main(["--model", str(model_file), "--images", str(folder)]) == 0
        assert written(Path("outputs")) == ["a.png"]

    def test_feature_short_options(self, model_file, folder):
        write_image(folder / "a.bmp")
        words = ["-m", str(model_file), "-i", str(folder), "-mo", "sliding", "-e", "bmp"]
        assert inference.main([*words, "-o", "out", "-d", "cpu"]) == 0
        assert written(Path("out")) == ["a.png"]

    def test_feature_mask_is_the_prediction(self, model_file, folder):
        from prediction.load_model import restore

        source = write_image(folder / "a.png")
        assert run(model_file, "-i", folder, "--overlay") == 0
        model, meta = restore(model_file, "cpu")
        image = np.array(Image.open(source))
        ids = network.Predictor(model, meta.mean, meta.std, "cpu", mode="whole").predict(image)
        assert len(np.unique(ids)) > 1
        mask = Image.open("outputs/a.png")
        assert mask.mode == "P"
        assert np.array(mask).tolist() == ids.tolist()
        colours = colorize(ids, meta.palette)
        assert np.array(mask.convert("RGB")).tolist() == colours.tolist()
        overlay = np.array(Image.open("outputs/a_overlay.png"))
        expected = draw_overlay(image, ids, meta.classes, meta.palette)
        assert overlay.tolist() == expected.tolist()


class TestImages:
    @pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1), (9, 200), (37, 23)])
    @pytest.mark.parametrize("mode", MODES)
    def test_cardinality(self, model_file, folder, size, mode):
        write_image(folder / "a.png", size)
        assert run(model_file, "-i", folder, "--mode", mode) == 0
        assert Image.open("outputs/a.png").size == size

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
    def test_feature_kinds_of_pixels(self, model_file, folder, mode):
        write_image(folder / ("a.tif" if mode == "CMYK" else "a.png"), mode=mode)
        assert run(model_file, "-i", folder) == 0
        assert np.array(Image.open("outputs/a.png")).max() < len(CLASSES)

    def test_feature_broken_images_are_named_and_skipped(self, model_file, folder, capsys):
        good = write_image(folder / "good.jpg", (200, 150))
        data = good.read_bytes()
        (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
        (folder / "empty.png").write_bytes(b"")
        (folder / "text.jpg").write_text("no image")
        (folder / "page.tif").write_bytes(b"II*\0\xff\xff\xff\xff")
        assert run(model_file, "-i", folder) == 1
        assert written(Path("outputs")) == ["good.png"]
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if line.startswith("skipped")]
        assert len(lines) == 4
        for name, line in zip(("cut.jpg", "empty.png", "page.tif", "text.jpg"), lines, strict=True):
            assert str(folder / name) in line
        assert "Traceback" not in err
        assert without_rate(out) == (
            "1 mask written to outputs (mode whole, ...); 4 images failed, named above\n"
        )

    def test_feature_jpegs_without_an_end_are_counted(self, model_file, folder, caplog):
        for name in ("a.jpg", "b.jpg"):
            path = write_image(folder / name)
            path.write_bytes(path.read_bytes()[:-2])
        assert run(model_file, "-i", folder) == 0
        assert written(Path("outputs")) == ["a.png", "b.png"]
        assert f"2 JPEGs have no end marker, first: {folder / 'a.jpg'}" in caplog.text

    def test_feature_image_that_the_model_refuses(self, model_file, folder, capsys, monkeypatch):
        monkeypatch.setattr(models.UNet, "min_size", 16)
        write_image(folder / "small.png", (8, 8))
        write_image(folder / "large.png", (16, 16))
        assert run(model_file, "-i", folder) == 1
        assert written(Path("outputs")) == ["large.png"]
        assert "small.png: UNet takes images of at least 16x16 pixels" in capsys.readouterr().err

    def test_feature_memory(self, model_file, folder, capsys, monkeypatch):
        def fail(*_):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")

        monkeypatch.setattr(models.UNet, "forward", fail)
        write_image(folder / "a.png")
        assert run(model_file, "-i", folder) == 1
        assert "a.png: does not fit into the memory of cpu, not even" in capsys.readouterr().err

    def test_feature_memory_for_less(self, model_file, folder, capsys, monkeypatch):
        """A image in tiles, and said once; small ones are predicted as ever."""
        whole = models.UNet.forward

        def forward(network, images):
            if images[0, 0].numel() > 150 * 150:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")
            return whole(network, images)

        for name, size in (("a", (20, 14)), ("b", (200, 150)), ("c", (190, 160))):
            write_image(folder / f"{name}.png", size)
        assert run(model_file, "-i", folder, "-o", "plain") == 0
        capsys.readouterr()
        monkeypatch.setattr(models.UNet, "forward", forward)
        assert run(model_file, "-i", folder) == 0
        assert Path("outputs/a.png").read_bytes() == Path("plain/a.png").read_bytes()
        for name in "bc":
            one, other = (np.array(Image.open(f"{at}/{name}.png")) for at in ("outputs", "plain"))
            assert one.shape == other.shape
            assert 0.8 < (one == other).mean() < 1
        out, err = capsys.readouterr()
        assert without_rate(out) == "3 masks written to outputs (mode whole, ...)\n"
        assert err == f"warning: {network.IN_WINDOWS} 128\n"


class TestProgress:
    def test_feature_lines_without_a_terminal(self, model_file, folder, capsys, monkeypatch):
        monkeypatch.setattr("utils.progress.INTERVAL", 0.0)
        for name in "ab":
            write_image(folder / f"{name}.png")
        assert run(model_file, "-i", folder, "--mode", "multiscale", "--workers", "0") == 0
        out = capsys.readouterr().out.splitlines()
        assert f"image 1/2 ({folder / 'a.png'}: pass 1/6), " in out[0]
        assert [line.partition(", ")[0] for line in out[4:7]] == [
            f"image 1/2 ({folder / 'a.png'}: pass 5/6)",
            "image 1/2",
            f"image 2/2 ({folder / 'b.png'}: pass 1/6)",
        ]


class TestRunFolder:
    def test_feature_the_best_model_of_a_run(self, model_file, folder, capsys):
        write_image(folder / "a.jpg")
        assert run(model_file.parent, "-i", folder) == 0
        out = capsys.readouterr().out.splitlines()
        assert out[0] == f"Model: {model_file}"
        assert written(Path("outputs")) == ["a.png"]


class TestScore:
    """Whose score is of another mode than the masks."""

    def change(self, model_file, **changes):
        checkpoint = torch.load(model_file, weights_only=True)
        path = Path("scored model.pth")
        torch.save({**checkpoint, **changes}, path)
        return path

    def noted(self, capsys, path, folder, mode):
        capsys.readouterr()
        assert run(path, "-i", folder, "--mode", mode, "--overwrite") == 0
        return capsys.readouterr().err

    @pytest.mark.parametrize("mode", MODES)
    def test_feature_the_best_of_a_training(self, model_file, folder, capsys, mode):
        write_image(folder / "a.png")
        trainer = {"monitor": "max Mean_IoU"}
        config = {"arch": {"type": "UNet", "args": {"base_channels": 2}}, "trainer": trainer}
        best = {"config": config, "epoch": 12, "best_epoch": 12, "monitor_best": 0.81234}
        path = self.change(model_file, **best)
        err = self.noted(capsys, path, folder, mode)
        if mode == "whole":
            assert err == ""
            return
        assert "Mean_IoU 0.8123 (epoch 12) was measured in mode whole" in err
        command = f"python evaluate.py --model '{path}' --mode {mode}"
        assert err.rstrip().endswith(command)

    def test_feature_the_mode_of_a_search(self):
        search = {"mode": "sliding", "figure": "Dice", "score": 0.5}
        known = score_of({"meta": {"threshold": 0.3, "threshold_search": search}})
        assert known.mode == "sliding"
        assert known.sentence == "the model's Dice 0.5000 was measured in mode sliding"
        assert score_of({"meta": {"threshold_search": search}}) is None

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"best_epoch": 3}, "the metrics of the model's training were measured in mode whole"),
            ({"monitor_best": float("nan")}, "the metrics of the model's training"),
            ({"monitor_best": None}, "the metrics of the model's training"),
            ({"trainer": {"val": False}}, None),
            ({"trainer": None}, None),
            ({"epoch": None}, None),
            ({"trainer": {"monitor": "min val_loss"}}, "the model's val_loss 0.5000 (epoch 4)"),
        ],
    )
    def test_feature_what_is_known(self, changes, said):
        trainer = changes.get("trainer", {"monitor": "max Mean_IoU"})
        checkpoint = {"epoch": 4, "best_epoch": 4, "monitor_best": 0.5, **changes}
        known = score_of({**checkpoint, "config": {"trainer": trainer}})
        assert (known is None) == (said is None)
        assert said is None or said in known.sentence

    def test_feature_a_record_of_an_earlier_epoch(self):
        search = {"mode": "whole", "figure": "Mean_IoU", "score": 0.9}
        config = {"threshold": "search", "trainer": {"monitor": "max Mean_IoU"}}
        meta = {"threshold": 0.3, "threshold_search": search}
        checkpoint = {"meta": meta, "config": config, "epoch": 7}
        assert "0.9" not in score_of({**checkpoint, "best_epoch": 5}).sentence
        assert "0.9" in score_of({**checkpoint, "best_epoch": 7}).sentence


class TestExisting:
    def test_feature_left_unless_asked(self, model_file, folder, capsys):
        write_image(folder / "a.jpg")
        write_image(folder / "b.jpg")
        Path("outputs").mkdir()
        Path("outputs/a.png").write_text("mine")
        assert run(model_file, "-i", folder) == 0
        assert Path("outputs/a.png").read_text() == "mine"
        assert without_rate(capsys.readouterr().out) == (
            "1 mask written to outputs (mode whole, ...); 1 kept as they were (--overwrite "
            "replaces them)\n"
        )
        assert run(model_file, "-i", folder) == 0
        assert capsys.readouterr().out.startswith("0 masks written to outputs; 2 kept")
        assert run(model_file, "-i", folder, "--overwrite") == 0
        out = without_rate(capsys.readouterr().out)
        assert out == "2 masks written to outputs (mode whole, ...)\n"
        assert Image.open("outputs/a.png").mode == "P"

    def test_feature_overlay_is_added(self, model_file, folder):
        write_image(folder / "a.jpg")
        assert run(model_file, "-i", folder) == 0
        before = Path("outputs/a.png").stat()
        assert run(model_file, "-i", folder, "--overlay") == 0
        assert written(Path("outputs")) == ["a.png", "a_overlay.png"]
        assert Path("outputs/a.png").stat().st_mtime_ns == before.st_mtime_ns


class TestInterrupt:
    def test_feature_exit_code(self, model_file, folder, capsys, monkeypatch):
        calls = []

        whole = network.Predictor.blocks

        def interrupt(self, *arguments):
            calls.append(arguments)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return whole(self, *arguments)

        monkeypatch.setattr(network.Predictor, "blocks", interrupt)
        for name in "abc":
            write_image(folder / f"{name}.jpg")
        assert run(model_file, "-i", folder) == 130
        assert written(Path("outputs")) == ["a.png"]
        assert "Traceback" not in capsys.readouterr().err


class TestException:
    """A mistake of the user: one message, exit code 2, nothing written."""

    @pytest.fixture(autouse=True)
    def _an_image(self, folder):
        write_image(folder / "a.jpg")

    def check(self, capsys, code, *parts):
        out, err = capsys.readouterr()
        assert code == 2
        assert out == ""
        assert err.startswith("inference.py: ")
        assert len(err.splitlines()) == 1
        for part in parts:
            assert str(part) in err
        assert not Path("outputs").exists()

    def test_model(self, folder, capsys):
        self.check(capsys, run("none.pth", "-i", folder), "--model", "no file none.pth")
        Path("text.pth").write_text("not a checkpoint")
        self.check(capsys, run("text.pth", "-i", folder), "text.pth")
        torch.save({"a": torch.zeros(2)}, "bare.pth")
        self.check(capsys, run("bare.pth", "-i", folder), "bare.pth", "add --config")

    def test_model_of_other_channels(self, model_file, folder, capsys):
        checkpoint = torch.load(model_file, weights_only=True)
        weights = models.UNet(3, base_channels=2, in_channels=1).state_dict()
        one = {"channels": 1, "mean": [0.5], "std": [0.5]}
        meta = {**checkpoint["meta"], **one}
        torch.save({**checkpoint, "state_dict": weights, "meta": meta}, "grey.pth")
        self.check(capsys, run("grey.pth", "-i", folder), "grey.pth", "1 channels")

    def test_config(self, model_file, folder, capsys):
        code = run(model_file, "-i", folder, "-c", "none.json")
        self.check(capsys, code, "--config", "none.json")
        Path("bad.json").write_text("{")
        self.check(capsys, run(model_file, "-i", folder, "-c", "bad.json"), "bad.json")

    @pytest.mark.parametrize("source", ["none", "none.jpg", "none/*.jpg", "images"])
    def test_no_images(self, model_file, folder, capsys, source):
        (folder / "a.jpg").rename(folder / "notes.txt")
        self.check(capsys, run(model_file, "-i", source), "--images", source)

    @pytest.mark.parametrize("device", ["gpu", "cuda:99", "99", ""])
    def test_device(self, model_file, folder, capsys, device):
        self.check(capsys, run(model_file, "-i", folder, device=device), "--device")

    @pytest.mark.parametrize("output", ["file", "file/below"])
    def test_output_is_a_file(self, model_file, folder, capsys, output):
        Path("file").touch()
        self.check(capsys, run(model_file, "-i", folder, "-o", output), "--output", output)

    def test_folder_cannot_be_read(self, model_file, folder, capsys, monkeypatch):
        def scandir(path):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr("os.scandir", scandir)
        self.check(capsys, run(model_file, "-i", folder), "--images", folder, "Permission denied")

    def test_output_cannot_be_written(self, model_file, folder, capsys, monkeypatch):
        Path("locked").mkdir()
        monkeypatch.setattr("os.access", lambda *_: False)
        self.check(capsys, run(model_file, "-i", folder, "-o", "locked"), "--output", "locked")

    def test_no_room_for_the_model(self, model_file, folder, capsys, monkeypatch):
        def fail(*_):
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(models.UNet, "to", fail)
        self.check(capsys, run(model_file, "-i", folder), "fit into the memory of cpu")

    def test_output_is_the_folder_of_the_images(self, model_file, folder, capsys):
        self.check(capsys, run(model_file, "-i", folder, "-o", folder), "--output", folder)
        assert run(model_file, "-i", folder, "-o", folder, "-e", "jpg") == 0
        assert written(folder) == ["a.jpg", "a.png"]

    def test_output_is_a_image(self, model_file, folder, capsys):
        source = write_image(folder / "a.png")
        before = source.read_bytes()
        code = run(model_file, "-i", source, "-o", folder, "--overwrite")
        self.check(capsys, code, "--output", source, "is one of the images")
        assert source.read_bytes() == before

    def test_same_name(self, model_file, folder, capsys):
        one, other = folder / "a.jpg", write_image(folder / "a.png")
        self.check(capsys, run(model_file, "-i", folder), one, other, "--extension")

    def test_same_name_of_an_overlay(self, model_file, folder, capsys):
        one, other = folder / "a.jpg", write_image(folder / "a_overlay.jpg")
        self.check(capsys, run(model_file, "-i", folder, "--overlay"), one, other)
        assert run(model_file, "-i", folder) == 0

    @pytest.mark.parametrize("arguments", [["--mode", "slide"], ["--modes", "whole"], []])
    def test_command_line(self, model_file, folder, capsys, arguments):
        images = ["-i", str(folder)] if arguments else []
        with pytest.raises(SystemExit) as caught:
            inference.main(["--model", str(model_file), *images, *arguments])
        assert caught.value.code == 2
        assert "Traceback" not in capsys.readouterr().err


class TestPytorchSegmentation:
    def test_smoke(self, folder):
        """`module.` keys, a NumPy number, its config inside; the dataset is not on this disk."""
        arch = {"type": "PSPNet", "args": {"backbone": "resnet18", "freeze_bn": False}}
        model = models.PSPNet(21, backbone="resnet18", pretrained=False)
        loader = {"type": "VOC", "args": {"data_dir": "gone", "split": "train_aug"}}
        checkpoint = {
            "arch": "DataParallelWithCallback",
            "epoch": 80,
            "state_dict": {f"module.{key}": value for key, value in model.state_dict().items()},
            "optimizer": {},
            "monitor_best": np.float64(0.76),
            "config": {"name": "x", "arch": arch, "train_loader": loader, "ignore_index": 255},
        }
        torch.save(checkpoint, "PSPnet.pth")
        write_image(folder / "a.jpg", (40, 30))
        assert run("PSPnet.pth", "-i", folder) == 0
        mask = Image.open("outputs/a.png")
        assert mask.size == (40, 30)
        assert mask.getpalette()[:63] == [v for colour in voc_palette(21) for v in colour]
        assert [*map(tuple, dataloaders.VOC.palette)] == voc_palette(21)

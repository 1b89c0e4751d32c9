"""The program prediction.on_ray, as far as it goes without Ray."""

import pytest

from prediction import on_ray
from prediction.cluster import engine, start
from prediction.cluster.attempts import Attempts
from prediction.cluster.calls import unpack_report
from prediction.cluster.start import Share
from prediction.cluster.worker import Worker
from tests.conftest import run_code
from tests.prediction.program import write_image, written


@pytest.fixture
def in_this_process(monkeypatch):
    """One actor, in this process."""
    started = []

    def run(calls, setup, models, config, share):
        worker = Worker(setup, models, config, Attempts())
        yield from (unpack_report(worker.call(text)) for text in calls)

    def begin(address, **wanted):
        started.append(address)
        return Share(1, 1, 0.0)

    monkeypatch.setattr(start, "check_installed", lambda: None)
    monkeypatch.setattr(start, "start", begin)
    monkeypatch.setattr(start, "stop", lambda: started.append("stopped"))
    monkeypatch.setattr(engine, "run", run)
    return started


def run(model_file, *words):
    return on_ray.main(["-m", str(model_file), "--mode", "whole", *map(str, words)])


def test_feature_a_run_and_a_rerun(model_file, folder, in_this_process, capsys):
    for name in ("a.jpg", "sub/b.png"):
        write_image(folder / name)
    (folder / "c.png").write_bytes(b"no picture")
    assert run(model_file, "-i", "images", "-o", "out", "--overlay") == 1
    captured = capsys.readouterr()
    assert "2 masks written to " in captured.out and "1 image failed, named above" in captured.out
    assert "skipped " in captured.err and "c.png" in captured.err
    assert "1 actor, each on the CPU with 1 thread of torch" in captured.err
    assert written(folder.parent / "out") == [
        "a.png", "a_overlay.png", "sub/b.png", "sub/b_overlay.png",
    ]  # fmt: skip
    (folder / "c.png").unlink()
    assert run(model_file, "-i", "images", "-o", "out") == 0
    assert "0 masks written to " in capsys.readouterr().out
    assert in_this_process == [None, "stopped"]  # for nothing to do, nothing is started


def test_feature_a_manifest_goes_on(model_file, folder, in_this_process, capsys):
    for name in ("a.jpg", "b.png"):
        write_image(folder / name)
    words = ("-i", "images", "-o", "out", "--manifest", "m.csv")
    assert run(model_file, *words) == 0
    (folder.parent / "out/a.png").write_bytes(b"edited")
    capsys.readouterr()
    assert run(model_file, *words) == 0
    assert "1 mask written" in (text := capsys.readouterr().out) and "1 kept as they were" in text


MISTAKES = [
    (["-i", "images", "--save", "ids,table"], "--save: table is made of all images together"),
    (["-i", "images", "--save", "idz"], "--save: no product 'idz'"),
    (["-i", "images", "--memory", "lots"], "--memory: 'lots' is not a size"),
    (["-i", "images", "--manifest", "m.txt"], "--manifest: m.txt is neither"),
    (["-i", "images", "-c", "none.json"], "--config: there is no file none.json"),
    (["-i", "none"], "--images: there is no file or folder none"),
    (["-i", "images", "-o", "images/a.jpg/out"], "--output: "),
    (["-i", "images", "-o", "nothing://x"], "nothing://x: cannot be opened"),
    (["-i", "images", "-o", "memory://x", "--save", "polygons.labelme"], "--save: polygons.labelm"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_exception_mistakes(model_file, folder, in_this_process, capsys, words, message):
    write_image(folder / "a.jpg")
    assert run(model_file, *words) == 2
    assert capsys.readouterr().err.startswith(f"prediction.on_ray: {message}")
    assert in_this_process == []


def test_exception_a_wrong_model(folder, in_this_process, capsys):
    write_image(folder / "a.jpg")
    (folder.parent / "bad.pth").write_bytes(b"no model")
    assert run("bad.pth", "-i", "images") == 2
    assert "bad.pth" in capsys.readouterr().err and in_this_process == []


def test_exception_unsafe_names_fail(model_file, folder, in_this_process, capsys, tmp_path):
    from prediction.cluster import stores

    write_image(tmp_path / "a.png")
    system = stores.open_store("memory://bucket").system
    system.pipe_file("/bucket/in/a.png", (tmp_path / "a.png").read_bytes())
    system.pipe_file("/bucket/in//b.png", b"")
    try:
        assert run(model_file, "-i", "memory://bucket/in", "-o", "out") == 1
    finally:
        system.store.clear()
    assert "b.png: its name is no path below a folder" in capsys.readouterr().err
    assert written(folder.parent / "out") == ["a.png"]


def test_exception_interrupted(model_file, folder, in_this_process, monkeypatch, capsys):
    def interrupt(*words):
        raise KeyboardInterrupt

    write_image(folder / "a.jpg")
    monkeypatch.setattr(engine, "run", interrupt)
    assert run(model_file, "-i", "images", "-o", "out") == 130
    assert "the same command continues" in capsys.readouterr().err
    assert in_this_process == [None, "stopped"]


def test_exception_torchrun(model_file, folder, in_this_process, monkeypatch, capsys):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0"),
                        ("MASTER_ADDR", "localhost")):  # fmt: skip
        monkeypatch.setenv(name, value)
    assert run(model_file, "-i", "images") == 2
    assert "leave out torchrun" in capsys.readouterr().err


def test_feature_help_is_light():
    result = run_code(
        "import sys\nfrom prediction import on_ray\n"
        "try: on_ray.main(['--help'])\nexcept SystemExit as end: assert not end.code\n"
        "sys.exit(bool({'torch', 'numpy', 'cv2', 'ray'} & set(sys.modules)))"
    )
    assert result.returncode == 0, result.stderr
    assert "--gpus-per-actor" in result.stdout

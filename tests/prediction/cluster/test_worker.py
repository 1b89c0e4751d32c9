"""What an actor does, in this process: its masks are those of inference.py."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import inference
from prediction.cluster import stores
from prediction.cluster.attempts import MAX_DEATHS, Attempts
from prediction.cluster.calls import Todo, pack, unpack_report
from prediction.cluster.options import parse_arguments
from prediction.cluster.predict_call import CallPredictor
from prediction.cluster.worker import Setup, Worker
from prediction.jobs.results_file import read_results
from prediction.record import digest_of_run
from tests.prediction.program import write_image, written

NAMES = ("a.jpg", "b.png", "sub/c.jpg", "sub/d.tif", "e.png")


@pytest.fixture
def images(folder):
    for seed, name in enumerate(NAMES):
        write_image(folder / name, (24, 20 + seed % 2), seed=seed)
    return folder


@pytest.fixture
def single(model_file, images, tmp_path):
    """What inference.py writes."""

    def single(*words):
        shutil.rmtree(tmp_path / "single", ignore_errors=True)
        words = ["-m", model_file, "-i", images, "-o", tmp_path / "single", "--mode", "whole",
                 *words]  # fmt: skip
        assert inference.main(list(map(str, words))) == 0
        return {
            name: (tmp_path / "single" / name).read_bytes() for name in written(tmp_path / "single")
        }

    return single


def worker_of(model_file, output, *words, attempts=None, with_manifest=False):
    arguments = parse_arguments(
        ["-m", str(model_file), "-i", "x", "-o", str(output), "--mode", "whole", *words]
    )
    arguments.device = "cpu"
    if with_manifest:
        arguments.manifest = "results.csv"
    digests = digest_of_run(arguments.model, arguments) if with_manifest else None
    setup = Setup(arguments, digests, 1, 1)
    return Worker(setup, [model_file.read_bytes()], None, attempts or Attempts())


def call(worker, todos):
    report = unpack_report(worker.call(pack(todos)))
    return report, {result.name: result for result in report.results}


def local(images, names=NAMES):
    return [Todo(str(images / name), name) for name in names]


def upload(images, store):
    for name in NAMES:
        stores.put(images / name, f"{store}/in/{name}")
    return [Todo(f"{store}/in/{name}", name) for name in NAMES]


def objects(address):
    system = stores.open_store(address).system
    return {name: system.cat_file(f"/bucket/out/{name}") for name in stores.objects_below(address)}


SAVES = ("ids", "ids.npy,overlay,polygons.coco,class:road")


@pytest.mark.parametrize("save", SAVES)
def test_feature_the_masks_are_those_of_inference(model_file, images, single, tmp_path, save):
    worker = worker_of(model_file, tmp_path / "out", "--save", save)
    report, results = call(worker, local(images))
    assert not report.stop and set(results) == set(NAMES)
    assert not any(result.error or result.kept for result in results.values())
    made = {name: (tmp_path / "out" / name).read_bytes() for name in written(tmp_path / "out")}
    assert made == single("--save", save)


@pytest.mark.parametrize("save", SAVES)
def test_feature_from_store_to_store(model_file, images, store, single, save):
    worker = worker_of(model_file, f"{store}/out", "--save", save)
    temporary = set(os.listdir(worker._predictor._target.work))
    report, results = call(worker, upload(images, store))
    assert not any(result.error for result in results.values()), report
    assert objects(f"{store}/out") == single("--save", save)
    left = [files for _, _, files in os.walk(worker._predictor._target.work) if files]
    assert not temporary and left == []


def test_feature_only_what_is_missing_is_put(model_file, images, store):
    todos = upload(images, store)[:1]
    for name in ("a.png", "a_overlay.png"):
        stores.open_store(store).system.pipe_file(f"/bucket/out/{name}", b"older")
    worker = worker_of(model_file, f"{store}/out", "--save", "ids,overlay")
    call(worker, [todos[0]._replace(there=["a.png"])])
    made = objects(f"{store}/out")
    assert made["a.png"] == b"older" and made["a_overlay.png"][:4] == b"\x89PNG"


def test_feature_a_geo_referenced_object(model_file, images, store, single, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    pixels = np.random.default_rng(5).integers(0, 256, (3, 20, 24), np.uint8)
    with rasterio.open(
        images / "geo.tif", "w", driver="GTiff", width=24, height=20, count=3, dtype="uint8",
        crs="EPSG:32633", transform=rasterio.Affine(2, 0, 500000, 0, -2, 5000000),
    ) as file:  # fmt: skip
        file.write(pixels)
    stores.put(images / "geo.tif", f"{store}/in/geo.tif")
    worker = worker_of(model_file, f"{store}/out")
    call(worker, [Todo(f"{store}/in/geo.tif", "geo.tif")])
    assert objects(f"{store}/out") == {"geo.tif": single()["geo.tif"]}


class TestBadInput:
    def test_exception_a_broken_picture_fails_alone(self, model_file, images, single, tmp_path):
        expected = single()
        (images / "b.png").write_bytes((images / "b.png").read_bytes()[:100])
        todos = [*local(images), Todo(str(images / "gone.png"), "gone.png")]
        report, results = call(worker_of(model_file, tmp_path / "out"), todos)
        assert not report.stop
        assert {name for name, result in results.items() if result.error} == {"b.png", "gone.png"}
        assert str(images) not in results["b.png"].error
        assert results["gone.png"].error == "no such file"
        del expected["b.png"]
        made = {name: (tmp_path / "out" / name).read_bytes() for name in written(tmp_path / "out")}
        assert made == expected

    def test_exception_a_broken_object_is_named_as_it_is(self, model_file, images, store):
        todos = upload(images, store)
        stores.open_store(store).system.pipe_file("/bucket/in/b.png", b"no picture")
        todos.append(Todo(f"{store}/in/gone.png", "gone.png"))
        _, results = call(worker_of(model_file, f"{store}/out"), todos)
        assert {name for name, result in results.items() if result.error} == {"b.png", "gone.png"}
        assert "images-" not in results["b.png"].error
        assert "there is no such object" in results["gone.png"].error
        assert set(objects(f"{store}/out")) == {"a.png", "sub/c.png", "sub/d.png", "e.png"}

    def test_exception_a_store_that_takes_nothing(self, model_file, images, store, monkeypatch):
        todos = upload(images, store)

        def refuse(*words, **options):
            raise OSError("slow down")

        worker = worker_of(model_file, f"{store}/out")
        monkeypatch.setattr(type(stores.open_store(store).system), "put_file", refuse)
        _, results = call(worker, todos)
        for name in NAMES:
            assert "cannot be written (slow down)" in results[name].error
        assert objects(f"{store}/out") == {}

    def test_exception_a_full_disk_stops_all(self, model_file, images, tmp_path, monkeypatch):
        def full(self):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("utils.files.atomic_write.PendingFile.finish", full)
        report, _ = call(worker_of(model_file, tmp_path / "out"), local(images))
        assert "the disk of the output folder is full" in report.stop

    def test_exception_a_model_that_cannot_be_loaded_here(self, model_file, tmp_path):
        """It is reported with the first call: an actor that raises has a page of traces."""
        arguments = parse_arguments(["-m", "m.pth", "-i", "x", "-o", str(tmp_path / "out")])
        arguments.device = "cpu"
        worker = Worker(Setup(arguments, None, 1, 1), [b"no model"], None, Attempts())
        report = unpack_report(worker.call(pack([])))
        assert report.stop.startswith("an actor cannot load the model: ")


class TestRepeated:
    """What a process does that gets the call of one that was killed."""

    def killed(self, todos, alone=()):
        """Counts as they are after such a process."""
        attempts = Attempts()
        attempts.begin([todo.name for todo in todos])
        for name in alone:
            attempts.begin_alone(name)
        return attempts

    def test_feature_only_the_rest_is_predicted(self, model_file, images, tmp_path, monkeypatch):
        todos = local(images)
        call(worker_of(model_file, tmp_path / "out"), todos[:2])
        before = {path: path.stat().st_ino for path in (tmp_path / "out").rglob("*.png")}
        worker = worker_of(model_file, tmp_path / "out", attempts=self.killed(todos))
        _, results = call(worker, todos)
        assert set(results) == set(NAMES)
        assert not any(result.error or result.kept for result in results.values())
        assert len(written(tmp_path / "out")) == len(NAMES)
        assert {path: path.stat().st_ino for path in before} == before

    def test_feature_what_was_put_is_not_put_again(self, model_file, images, store, monkeypatch):
        todos = upload(images, store)
        call(worker_of(model_file, f"{store}/out"), todos[:3])
        worker = worker_of(model_file, f"{store}/out", attempts=self.killed(todos))
        put, puts = stores.put, []
        monkeypatch.setattr(stores, "put", lambda *words: (puts.append(words[1]), put(*words)))
        call(worker, todos)
        assert puts == [f"{store}/out/sub/d.png", f"{store}/out/e.png"]

    def test_exception_an_image_that_ends_its_process(self, model_file, images, tmp_path):
        todos = local(images)
        attempts = self.killed(todos, alone=["b.png"] * MAX_DEATHS)
        attempts.begin_alone("e.png")  # once is no reason to give up
        _, results = call(worker_of(model_file, tmp_path / "out", attempts=attempts), todos)
        assert [name for name, result in results.items() if result.error] == ["b.png"]
        assert "3 processes were killed" in results["b.png"].error
        assert len(written(tmp_path / "out")) == len(NAMES) - 1
        # All is at its end: the next call with these images is a new one.
        assert not attempts.begin([todo.name for todo in todos])

    def test_exception_a_model_that_ends_its_process(self, model_file, tmp_path):
        attempts = Attempts()
        for _ in range(MAX_DEATHS):
            attempts.load()
        report, _ = call(worker_of(model_file, tmp_path / "out", attempts=attempts), [])
        assert "the processes that load the model are killed" in report.stop

    def test_feature_two_processes_with_one_call(self, model_file, images, tmp_path, monkeypatch):
        """One was given up, but lives, and is first: both find that the image is done."""
        todos = local(images, ["a.jpg"])
        done = CallPredictor._is_done
        other = worker_of(model_file, tmp_path / "out")

        def late(self, *words):
            monkeypatch.setattr(CallPredictor, "_is_done", done)
            assert not done(self, *words)
            call(other, todos)
            return False

        monkeypatch.setattr(CallPredictor, "_is_done", late)
        _, results = call(worker_of(model_file, tmp_path / "out"), todos)
        assert not results["a.jpg"].error
        assert written(tmp_path / "out") == ["a.png"]


class TestManifest:
    def run(self, model_file, output, todos, *words):
        return call(worker_of(model_file, output, *words, with_manifest=True), todos)[1]

    @pytest.mark.parametrize("kind", ["folder", "store"])
    def test_feature_digests_are_those_of_inference(
        self, model_file, images, single, store, tmp_path, kind
    ):
        single("--manifest", str(tmp_path / "single.csv"))
        rows = {row.path: row for row in read_results(tmp_path / "single.csv")}
        todos = upload(images, store) if kind == "store" else local(images)
        output = f"{store}/out" if kind == "store" else tmp_path / "out"
        results = self.run(model_file, output, todos)
        for name in NAMES:
            assert results[name].image_sha256 == rows[name].image_sha256
            assert {k: tuple(v) for k, v in results[name].products.items()} == rows[name].files()
        # And a result of theirs is one of ours, as long as nothing has changed.
        todos = [todo._replace(row=rows[todo.name]) for todo in todos]
        results = self.run(model_file, output, todos)
        assert all(result.kept for result in results.values())
        results = self.run(model_file, output, todos, "--unsure", "0.5")
        assert not any(result.kept or result.error for result in results.values())

    @pytest.mark.parametrize("change", ["image", "product", "missing"])
    def test_feature_what_has_changed_is_made_again(
        self, model_file, images, single, tmp_path, change
    ):
        single("--manifest", str(tmp_path / "single.csv"))
        rows = {row.path: row for row in read_results(tmp_path / "single.csv")}
        shutil.copytree(tmp_path / "single", tmp_path / "out")
        if change == "image":
            write_image(images / "b.png", seed=99)
        elif change == "product":
            (tmp_path / "out/b.png").write_bytes(b"edited")
        else:
            (tmp_path / "out/b.png").unlink()
        todos = [todo._replace(row=rows[todo.name]) for todo in local(images)]
        results = self.run(model_file, tmp_path / "out", todos)
        assert {name for name, result in results.items() if not result.kept} == {"b.png"}
        single()
        made = (tmp_path / "out/b.png").read_bytes()
        assert made == (tmp_path / "single/b.png").read_bytes()


def test_feature_threads_are_what_was_asked_for(model_file, tmp_path):
    before = torch.get_num_threads()
    try:
        arguments = parse_arguments(["-m", "m", "-i", "x", "-o", str(tmp_path / "out")])
        arguments.device = "cpu"
        Worker(Setup(arguments, None, 1, 3), [model_file.read_bytes()], None, Attempts())
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_feature_notes_name_objects(model_file, images, store, monkeypatch):
    """Not the copies, which are gone when somebody reads the note."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (24, 20)).save(images / "a.jpg", exif=exif)
    report, _ = call(worker_of(model_file, f"{store}/out"), upload(images, store))
    (note,) = [note for note in report.notes if "EXIF" in note]
    assert note.startswith(f"{store}/in/a.jpg: ")
    assert json.dumps(report).count("images-") == 0

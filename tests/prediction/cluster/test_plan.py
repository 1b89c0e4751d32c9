"""Which images are handed out."""

from pathlib import Path

import pytest

from prediction.cluster.calls import Todo
from prediction.cluster.plan import make_plan, possible_names
from prediction.cluster.targets import FolderTarget, target_of
from prediction.jobs.image_file import ImageFile
from prediction.jobs.manifest import UNFINISHED, open_manifest, rows_of
from prediction.jobs.results_file import Row, products_text
from prediction.outputs import Outputs
from prediction.products.kinds import Settings

DONE = Row("a.jpg", "i", "m", "s", products_text({"ids": ("a.png", "d")}), 1.0, "")


def outputs_of(target, save="ids"):
    return Outputs.of(save, ("sky",), target.work, Settings())


def plan(images, target, save="ids", *, manifest=None, overwrite=False):
    outputs = outputs_of(target, save)
    return make_plan(images, outputs, target, manifest=manifest, overwrite=overwrite)


def stored(*names):
    return [ImageFile(f"s3://b/in/{name}", name) for name in names]


@pytest.fixture
def target(tmp_path):
    (tmp_path / "out/sub").mkdir(parents=True)
    return FolderTarget(tmp_path / "out")


def test_feature_what_is_there_is_left_out(target):
    (target.work / "sub/a.png").touch()
    (target.work / "b.png").touch()
    images = stored("sub/a.jpg", "b.jpg", "c.jpg")
    found = plan(images, target)
    assert (found.todos, found.kept) == ([Todo("s3://b/in/c.jpg", "c.jpg")], 2)
    found = plan(images, target, "ids,overlay")
    assert (len(found.todos), found.kept) == (3, 0)
    assert len(plan(images, target, overwrite=True).todos) == 3


def test_feature_of_a_store_an_actor_learns_what_is_there(store, fill):
    """So that it asks nothing, and puts nothing twice."""
    fill({"out/a.png": b"", "out/a_overlay.png": b"", "out/b.png": b""})
    found = plan(stored("a.jpg", "b.jpg", "c.jpg"), target_of(f"{store}/out"), "ids,overlay")
    assert [(todo.name, todo.there) for todo in found.todos] == [
        ("b.jpg", ["b.png"]),
        ("c.jpg", []),
    ]
    assert found.kept == 1


def test_feature_a_tiff_in_a_store_may_be_geo_referenced(target):
    """What is in it is not known before it is fetched; either result counts."""
    (image,) = stored("a.tif")
    assert possible_names(image, outputs_of(target)) == [["a.png"], ["a.tif"]]
    assert possible_names(image, outputs_of(target, "ids.npy")) == [["a.npy"]]
    (target.work / "a.tif").touch()
    (target.work / "b.png").touch()
    found = plan(stored("a.tif", "b.tif", "c.tif"), target)
    assert [todo.name for todo in found.todos] == ["c.tif"]


@pytest.mark.parametrize("output", ["folder", "store"])
def test_exception_two_images_for_one_product(tmp_path, store, output):
    target = target_of(str(tmp_path / "out") if output == "folder" else f"{store}/out")
    with pytest.raises(ValueError, match=r"a\.jpg and .*a\.png would both become .*out/a\.png"):
        plan(stored("a.jpg", "a.png"), target)


def test_exception_a_product_that_is_an_image(store):
    images = [ImageFile(f"{store}/in/a.png", "a.png")]
    with pytest.raises(ValueError, match="--output: .*in/a.png is one of the images"):
        plan(images, target_of(f"{store}/in"))


class TestManifest:
    def test_feature_results_are_handed_out_to_be_verified(self, tmp_path, target):
        path = tmp_path / "m.csv"
        with open_manifest(path, Path()) as manifest:
            manifest.add(DONE)
            manifest.add(DONE._replace(path="b.jpg", error="broken"))
            found = plan(stored("a.jpg", "b.jpg", "c.jpg"), target, manifest=manifest)
            assert [todo.row for todo in found.todos] == [DONE, None, None]
            assert (found.kept, found.refused) == (0, [])
            # What is begun is ours, even if nothing else is heard of this run.
            rows = rows_of(path)
            assert rows["a.jpg"] == DONE
            for name in ("b", "c"):
                row = rows[f"{name}.jpg"]
                assert row.error == UNFINISHED and (f"{name}.png", "") in row.files().values()

    @pytest.mark.parametrize("output", ["folder", "store"])
    def test_exception_what_no_run_has_made_is_not_replaced(self, tmp_path, fill, store, output):
        fill({"out/c.png": b""})
        (tmp_path / "out").mkdir()
        (tmp_path / "out/c.png").touch()
        target = target_of(str(tmp_path / "out") if output == "folder" else f"{store}/out")
        with open_manifest(tmp_path / "m.csv", Path()) as manifest:
            found = plan(stored("b.jpg", "c.jpg"), target, manifest=manifest)
            assert [todo.name for todo in found.todos] == ["b.jpg"]
            ((name, error, *_),) = found.refused
            assert name == "c.jpg" and error.startswith("c.png exists and is not in the manifest")
            found = plan(stored("c.jpg"), target, manifest=manifest, overwrite=True)
            assert (len(found.todos), found.refused) == (1, [])

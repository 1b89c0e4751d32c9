"""The images of stores, and of lists of their addresses."""

import pyarrow
import pyarrow.parquet
import pytest

from prediction.cluster.find import find_all, named_objects
from prediction.cluster.options import parse_arguments


def find(*words):
    return find_all(parse_arguments(["-m", "m.pth", *map(str, words)]))


def names(*words):
    return [image.name for image in find(*words).images]


def test_feature_a_folder_of_a_store(store, fill):
    wanted = ("a.JPG", "sub/b.png", "x_mask.png")
    others = ("c.txt", ".hidden.png", ".trash/d.png", "out/e.png")
    fill({f"in/{name}": b"" for name in (*wanted, *others)})
    words = ("-i", f"{store}/in", "-o", f"{store}/in/out")
    found = find(*words)
    assert [tuple(image) for image in found.images] == [
        (f"{store}/in/a.JPG", "a.JPG"),
        (f"{store}/in/sub/b.png", "sub/b.png"),
        (f"{store}/in/x_mask.png", "x_mask.png"),
    ]
    assert names(*words, "--exclude", "*_mask.*", "-e", "png") == ["sub/b.png"]
    assert names("-i", f"{store}/in/a.JPG") == ["a.JPG"]


def test_feature_names_that_lead_out_are_left_out(store, fill):
    fill({"in/a.png": b"", "in//b.png": b"", "in/c/../../../d.png": b""})
    found = find("-i", f"{store}/in")
    assert [image.name for image in found.images] == ["a.png"]
    assert found.unsafe == [f"{store}/in//b.png", f"{store}/in/c/../../../d.png"]


def test_feature_a_list_in_a_store(store, fill):
    fill({"lists/all.csv": b"image\na.png\nsub/b.png\nmemory://bucket/else/c.png\n"})
    found = find("-i", f"{store}/lists/all.csv")
    assert [tuple(image) for image in found.images] == [
        (f"{store}/lists/a.png", "lists/a.png"),
        (f"{store}/lists/sub/b.png", "lists/sub/b.png"),
        (f"{store}/else/c.png", "else/c.png"),
    ]


@pytest.mark.parametrize("extension", ["txt", "csv", "parquet"])
def test_feature_a_list_of_addresses(store, folder, extension):
    addresses = [f"{store}/in/a.png", f"{store}/in/b.png"]
    path = folder / f"list.{extension}"
    if extension == "parquet":
        table = pyarrow.table({"size": [1, 2], "path": addresses})
        pyarrow.parquet.write_table(table, path)
    else:
        path.write_text("\n".join((["path"] if extension == "csv" else []) + addresses))
    assert names("-i", path) == ["a.png", "b.png"]


def test_feature_what_is_on_file_systems_has_absolute_paths(folder):
    for name in ("a.png", "sub/b.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    expected = [(str(folder / "a.png"), "a.png"), (str(folder / "sub/b.png"), "sub/b.png")]
    assert [tuple(image) for image in find("-i", "images").images] == expected
    assert [tuple(image) for image in find("-i", f"file://{folder}").images] == expected
    (folder / "list.txt").write_text("a.png\nsub/b.png\n")
    assert [tuple(image) for image in find("-i", folder / "list.txt").images] == expected


def test_exception_a_list_of_both(store, folder):
    (folder / "list.txt").write_text(f"a.png\n{store}/b.png\n")
    with pytest.raises(ValueError, match="names memory://bucket/b.png and a.png; write a list"):
        find("-i", folder / "list.txt")


@pytest.mark.parametrize("source", ["-", "camera:0", "a.mp4"])
def test_exception_streams(folder, monkeypatch, source):
    monkeypatch.chdir(folder)
    (folder / "a.mp4").touch()
    with pytest.raises(ValueError, match="for one machine: use inference.py"):
        find("-i", source)


def test_exception_nothing_there(store, folder):
    with pytest.raises(ValueError, match="no image in memory://bucket/none"):
        find("-i", f"{store}/none")
    with pytest.raises(ValueError, match="memory://bucket/none.txt: cannot be read"):
        find("-i", f"{store}/none.txt")
    with pytest.raises(ValueError, match="no file or folder none"):
        find("-i", "none")


def test_feature_names_do_not_depend_on_the_order():
    addresses = ["s3://b/x/a.png", "s3://b/x/y/b.png", "s3://b/x/c.png"]
    expected = dict(zip(addresses, ["a.png", "y/b.png", "c.png"], strict=True))
    assert dict(named_objects(addresses)) == dict(named_objects(addresses[::-1])) == expected
    mixed = dict(named_objects(["s3://b/a.png", "gs://b/a.png"]))
    assert mixed == {"s3://b/a.png": "s3/b/a.png", "gs://b/a.png": "gs/b/a.png"}

"""What goes to actors and comes back."""

import os

from hypothesis import given
from hypothesis import strategies as st

from prediction.cluster.calls import (
    MAX_IMAGES,
    Report,
    Result,
    Todo,
    pack,
    pack_report,
    split,
    unpack,
    unpack_report,
)
from utils.files.file_notes import FileNote


def test_feature_images_come_through():
    odd = os.fsdecode(b"\xff\xfe.jpg")
    todos = [Todo(f"/in/{odd}", odd), Todo("s3://b/ü", "ü", ["a.png"], ["p", "1", 2.5])]
    text = pack(todos)
    assert text.isascii() and unpack(text) == [Todo(f"/in/{odd}", odd, []), todos[1]]
    assert todos[0].image == (f"/in/{odd}", odd)


def test_feature_reports_come_through():
    results = [Result("a", "broken"), Result("b", "", True, "12", {"ids": ("b.png", "34")}, 0.5)]
    report = Report(results, ["a note"], [FileNote("a.jpg", "JPEG", "no end")], "full")
    back = unpack_report(pack_report(report))
    assert back.results[0] == results[0] and back.notes == report.notes
    assert back.results[1]._replace(products={}) == results[1]._replace(products={})
    assert {name: tuple(made) for name, made in back.results[1].products.items()} == {
        "ids": ("b.png", "34")
    }
    assert back.file_notes == report.file_notes and back.stop == "full"


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(1, 300))
def test_feature_each_image_is_in_one_call(images, actors, batch_size):
    todos = [Todo(str(number), str(number)) for number in range(images)]
    calls = split(todos, actors, batch_size)
    assert [todo for call in calls for todo in call] == todos
    assert all(len(call) % batch_size == 0 for call in calls[:-1])
    assert max(map(len, calls)) <= max(MAX_IMAGES, batch_size)
    if images >= 4 * actors and batch_size == 1:
        assert len(calls) >= 2 * actors


def test_feature_no_images():
    assert split([], 2, 1) == []

"""What a word behind --images names."""

import pytest

from prediction.jobs.source_kinds import kind_of_source, stream_of

KINDS = {
    "-": "stdin", "camera:0": "camera", "camera:12": "camera",
    "http://host/a.jpg": "url", "HTTPS://host/a.mp4": "url", "https://host/*.jpg": "url",
    "there": "folder", "there/list.txt": "folder", "there/a.jpg": "file", "there/a[1].jpg": "file",
    "there/names.LST": "list", "there/t.csv": "list", "there/t.tsv": "list", "there/b.MP4": "video",
    "there/*.jpg": "pattern", "**/a?.png": "pattern", "*.txt": "pattern", "*.mp4": "pattern",
    # What does not exist is told by its extension; that it does not, when it is looked for.
    "gone": "file", "gone.png": "file", "gone.txt": "list", "gone.webm": "video",
    "camera:": "file", "camera:x": "file", "./camera:0": "file", "./-": "file", "": "file",
}  # fmt: skip


@pytest.fixture
def there(here):
    (here / "there" / "list.txt").mkdir(parents=True)
    for name in ("a.jpg", "a[1].jpg", "names.LST", "t.csv", "t.tsv", "b.MP4"):
        (here / "there" / name).touch()


@pytest.mark.parametrize("text", KINDS)
def test_feature_kinds(there, text):
    assert kind_of_source(text) == KINDS[text]


@pytest.mark.parametrize("text", ["ftp://host/a.jpg", "file:///etc/passwd", "s3://bucket/*.jpg"])
def test_exception_other_schemes(here, text):
    with pytest.raises(ValueError, match="https://") as error:
        kind_of_source(text)
    assert text in str(error.value)


def test_feature_streams(there):
    assert stream_of(["there", "there/a.jpg", "there/t.csv", "http://a/b.jpg"]) is None
    for source in ("-", "camera:0", "there/b.MP4"):
        assert stream_of([source]) == kind_of_source(source)
        with pytest.raises(ValueError, match="alone") as error:
            stream_of(["there", source])
        assert source in str(error.value)

"""JPEGs complete but for the end are read, counted and named; those that lack a block are not."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from base.base_dataloader import BaseDataLoader, LoaderOptions
from base.base_dataset import BaseDataset
from tests.bad_files import GOOD_JPEG, IDS, PHOTO, encode, png
from utils.files.data_file import DataError
from utils.files.file_notes import FileNote, collect_notes, count_notes
from utils.files.image_io import read_image
from utils.files.jpeg_end import mending_command
from utils.samples.pairing import Sample
from utils.transforms.augmentation import Augmentation

END = b"\xff\xd9"
SMALL = Image.fromarray(PHOTO).resize((18, 20))
KINDS = {
    "4:4:4": {"subsampling": 0},
    "4:2:0": {"subsampling": 2},
    "restarts": {"restart_marker_blocks": 1},
    "progressive": {"progressive": True},
    "progressive 4:2:0, restarts": {
        "progressive": True, "subsampling": 2, "restart_marker_blocks": 2,
    },
    "short codes": {"optimize": True, "quality": 100},
}  # fmt: skip
FILES = {name: encode(SMALL, "JPEG", **{"quality": 80, **kind}) for name, kind in KINDS.items()}
FILES["grey"] = encode(SMALL.convert("L"), "JPEG")
FILES["CMYK"] = encode(SMALL.convert("CMYK"), "JPEG", subsampling=0)
FILES["flat"] = encode(Image.new("RGB", (40, 40), (9, 99, 30)), "JPEG", optimize=True)


def read(path: Path, data: bytes) -> tuple[np.ndarray, list[FileNote]] | None:
    path.write_bytes(data)
    with collect_notes() as notes:
        try:
            return read_image(path), notes
        except DataError as error:
            assert str(path) in str(error)
            return None


def critical_cuts(data: bytes) -> list[int]:
    """Around the end and every marker, where a decoder may take what is left for whole; others."""
    markers = [found.start() for found in re.finditer(rb"\xff[\xc4\xda\xd0-\xd9]", data)]
    near = {cut for place in markers for cut in range(place - 2, place + 4)}
    last = set(range(len(data) - 14, len(data)))
    return sorted(cut for cut in near | last | set(range(9, len(data), 29)) if cut < len(data))


@pytest.mark.parametrize("name", FILES)
def test_feature_no_cut_file_lacks_a_pixel(tmp_path: Path, name: str) -> None:
    """Independent: the whole file, of which a cut one has to have every pixel."""
    whole, path = FILES[name], tmp_path / "a.jpg"
    (pixels, notes), accepted = read(path, whole) or (None, None), []
    assert pixels is not None and not notes
    for cut in critical_cuts(whole):
        # What a disk or a download leaves behind a cut: nothing, or zeros.
        for tail in (b"", bytes(len(whole) - cut)):
            found = read(path, whole[:cut] + tail)
            if found is not None:
                assert np.array_equal(found[0], pixels), cut
                assert found[1] == [FileNote(str(path), "JPEG", "no end marker")]
                accepted.append((cut, len(tail) > 0))
    end = len(whole) - len(END)
    assert {(end, False), (end, True), (end + 1, False)} <= set(accepted)


@pytest.mark.parametrize("stray", [bytes(20), b"\xaa" * 20])
@pytest.mark.parametrize("end", [END, b""])
def test_feature_stray_bytes(tmp_path: Path, stray: bytes, end: bytes) -> None:
    what = "stray bytes before the end marker" if end else "no end marker"
    for data in FILES.values():
        found = read(tmp_path / "a.jpg", data[:-2] + stray + end)
        assert found is not None and [note.what for note in found[1]] == [what]
        expected = read(tmp_path / "b.jpg", data)
        assert expected is not None and np.array_equal(found[0], expected[0])


def test_exception_codes_that_damage_leaves_over(tmp_path: Path) -> None:
    """Blocks are left over where a changed byte has made one block out of several."""
    data = FILES["4:4:4"]
    rest = data[-40:-2]
    assert read(tmp_path / "a.jpg", data[:-2] + rest + END) is None
    assert read(tmp_path / "a.jpg", data[:-2] + rest) is None
    assert read(tmp_path / "a.jpg", data[:-2] + rest + bytes(30) + END) is None
    assert read(tmp_path / "a.jpg", data[:-10] + bytes(30) + END) is None


def test_exception_the_command_mends(tmp_path: Path) -> None:
    """Copying does not help; saving anew does: Pillow, told to pass over damage, stands for it."""
    path = tmp_path / "my photo.jpg"
    path.write_bytes(GOOD_JPEG[:-90])
    with pytest.raises(DataError) as caught:
        read_image(path)
    new = tmp_path / "my photo_mended.jpg"
    assert f"jpegtran -copy all '{path}' > '{new}'" in str(caught.value)
    assert mending_command("a.jpg") == "jpegtran -copy all a.jpg > a_mended.jpg"
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        Image.open(path).save(new, quality=100)
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    assert read_image(new).shape == PHOTO.shape


def test_feature_lines_are_counted() -> None:
    notes = [FileNote(name, "JPEG", "no end marker") for name in ("b", "a", "b", "c")]
    notes.append(FileNote("d", "JPEG", "stray bytes before the end marker"))
    assert count_notes(notes) == [
        "3 JPEGs have no end marker, first: a",
        "1 JPEG has stray bytes before the end marker, first: d",
    ]
    assert pickle.loads(pickle.dumps(notes)) == notes


class Few(BaseDataset):
    classes, palette = ("a", "b"), ((0, 0, 0), (255, 255, 255))


def make_set(folder: Path, whole: int, cut: int) -> list[Sample]:
    for name in ("images", "masks"):
        (folder / name).mkdir()
    samples = []
    for number in range(whole + cut):
        image, mask = folder / f"images/{number}.jpg", folder / f"masks/{number}.png"
        image.write_bytes(GOOD_JPEG if number < whole else GOOD_JPEG[:-2])
        mask.write_bytes(png(IDS & 1, 0))
        samples.append(Sample(str(number), str(image), str(mask)))
    return samples


@pytest.mark.parametrize("num_workers", [0, 1])
def test_feature_a_loader_counts_once(
    tmp_path: Path, num_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    options = LoaderOptions(batch_size=2, num_workers=num_workers)
    loader = BaseDataLoader(
        Few(make_set(tmp_path, 1, 3)), Augmentation(), options, seed=0, ignore_index=255,
        training=True,
    )  # fmt: skip
    for epoch in (1, 2):
        assert sum(len(batch.indices) for batch in loader.epoch(epoch)) == 4
        loader.say_notes()
    first = tmp_path / "images/1.jpg"
    (record,) = caplog.records
    assert record.getMessage() == f"3 JPEGs have no end marker, first: {first}; read anyway"
    loader.say_notes(FileNote("other.jpg", "JPEG", "no end marker"))  # of another process
    assert caplog.records[-1].getMessage().startswith("4 JPEGs have no end marker")

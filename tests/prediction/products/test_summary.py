"""The summary page: what is on it, read by a parser; test_summary_browser.py shows it."""

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prediction.products import summary_page, summary_store
from prediction.products.rows import Rows
from prediction.products.summary import RunFacts, SummaryPage
from prediction.products.summary_store import ClassPixels, ImageEntry
from tests.conftest import ROOT
from tests.html_page import Page
from tests.prediction.products.vector_case import CLASSES, facts_of, feed, random_ids
from tests.report_case import HOSTILE
from utils.drawing.palette import IGNORED_COLOUR, voc_palette

RUN = RunFacts("saved/cars/best_model.pth", "sliding", "2026-11-29 12:34", "cars", 12.3, "cpu")


def add(page, ids, folder, name="some/im.png", step=7, **options):
    image = np.repeat(ids[..., None].astype(np.uint8) * 50, 3, axis=2)
    product = page.product(facts_of(ids, folder, name=name, **options))
    feed(product, ids, step, image=image if "image" in product.needs else None)
    return product


def read(folder):
    return Page((folder / "index.html").read_text("utf-8"))


def decoded(url):
    return np.array(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"))


def test_feature_an_image_and_its_mask(tmp_path):
    ids = random_ids(0, 60, 80, blur=4.0)
    ids[:9, :9] = 255
    page = SummaryPage(tmp_path)
    product = add(page, ids, tmp_path, ignore_index=255)
    assert list(product.needs) == ["image"]
    assert page.close(RUN) == tmp_path / "index.html"
    photo, mask = read(tmp_path).all("img")
    colours = np.array([*voc_palette(4), IGNORED_COLOUR])[np.where(ids == 255, 4, ids)]
    assert (decoded(mask["src"]) == colours).all()
    assert photo["alt"] == "some/im.png" and mask["alt"].startswith("Mask of some/im.png: ")
    assert np.abs(decoded(photo["src"])[20:, :, 0].astype(int) - 50 * ids[20:]).mean() < 8
    assert not any(tmp_path.glob("*.journal"))


def test_feature_run_facts_classes_and_shares(tmp_path):
    """By hand: of 40 pixels 30 are road and 10 tree, in the other image all are tree."""
    page = SummaryPage(tmp_path)
    ids = np.ones((4, 10), np.uint8)
    ids[3] = 2
    add(page, ids, tmp_path, "a.png")
    add(page, ids * 0 + 2, tmp_path, "b.png")
    page.add_failure(Path("c.png"), ValueError("is truncated\ncopy it again"))
    page.close(RUN)
    text = " ".join(" ".join(read(tmp_path).texts).split()).replace("\u00a0", " ")
    for words in ("cars", "saved/cars/best_model.pth", "sliding", "2026-11-29 12:34", "12 s on cpu",
                  "1 failed", "c.png : is truncated", "Over all 2 images"):  # fmt: skip
        assert words in text, words
    values = [attrs["data-v"] for attrs in read(tmp_path).all("td", **{"class": "num"})]
    assert values[:6] == ["0.625", "50", "2", "0.375", "30", "1"]  # tree, road
    assert values[6:] == ["40", "0.25", "0.75", "40", "1", "0"]  # pixels, tree, road


def test_feature_images_of_earlier_runs_stay(tmp_path):
    ids = np.ones((4, 10), np.uint8)
    for names in (["b.png", "a.png"], ["c.png", "a.png"], []):
        page = SummaryPage(tmp_path)
        for name in names:
            add(page, ids + (names[0] == "c.png"), tmp_path, name)
        assert [page.has(Path(name)) for name in names] == [True] * len(names)
        page.close(RUN)
    shown = [attrs["alt"] for attrs in read(tmp_path).all("img")]
    assert shown == ["a.png", "Mask of a.png: tree 100 %", "b.png", "Mask of b.png: road 100 %",
                     "c.png", "Mask of c.png: tree 100 %"]  # fmt: skip
    assert SummaryPage(tmp_path).has(Path("b.png")) and not SummaryPage(tmp_path).has(Path("d"))
    # Who removes the page begins anew.
    (tmp_path / "index.html").unlink()
    page = SummaryPage(tmp_path)
    assert not page.has(Path("b.png"))
    add(page, ids, tmp_path, "d.png")
    page.close(RUN)
    assert read(tmp_path).all("img")[0]["alt"] == "d.png"
    assert len(read(tmp_path).all("img")) == 2


def test_feature_a_killed_run_loses_unfinished_images_only(tmp_path):
    page = SummaryPage(tmp_path)
    ids = np.ones((4, 10), np.uint8)
    add(page, ids, tmp_path, "a.png")
    page.add_failure(Path("b.png"), "broken")
    unfinished = page.product(facts_of(ids, tmp_path, name="c.png"))
    unfinished.write(Rows(0, ids[:2], image=np.zeros((2, 10, 3), np.uint8)))
    again = SummaryPage(tmp_path)
    assert [again.has(Path(f"{name}.png")) for name in "abc"] == [True, False, False]
    again.close(RUN)
    assert read(tmp_path).all("img")[0]["alt"] == "a.png"
    unfinished.discard()
    unfinished.discard()


def test_feature_of_many_images_some_are_shown_and_the_rest_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(summary_store, "MAX_SHOWN", 6)
    page = SummaryPage(tmp_path)
    ids = np.ones((4, 10), np.uint8)
    names = [f"{number:03d}.png" for number in range(50)]
    seen = [add(page, ids, tmp_path, name).needs for name in names]
    assert 6 < seen.count(("image",)) < 40  # images that cannot be shown are not asked for
    page.close(RUN)
    shown = [attrs["alt"] for attrs in read(tmp_path).all("img")][::2]
    assert shown == sorted(sorted(names, key=summary_store.digest)[:6])
    text = " ".join(read(tmp_path).texts)
    assert "6 of 50 images are shown" in text and "Over all 50 images" in text
    assert (tmp_path / "index.html").stat().st_size < 60_000


def test_feature_more_than_256_classes(tmp_path):
    page = SummaryPage(tmp_path)
    classes = [f"class {n}" for n in range(300)]
    ids = (np.arange(40).reshape(4, 10) * 7).astype(np.uint16)
    add(page, ids, tmp_path, classes=classes)
    page.close(RUN)
    _, mask = read(tmp_path).all("img")
    assert (decoded(mask["src"]) == np.array(voc_palette(300))[ids]).all()
    assert mask["alt"].endswith(" and 35 more classes")
    assert len(read(tmp_path).all("th", scope="col")) == 4 + 2 + summary_page.MAX_COLUMNS


def test_feature_hostile_names_are_text(tmp_path):
    page = SummaryPage(tmp_path)
    ids = random_ids(0, 20, 20, num_classes=7, blur=2.0)
    for name in HOSTILE:
        add(page, ids, tmp_path, name, classes=HOSTILE)
    page.add_failure(Path(HOSTILE[0] + "x"), HOSTILE[1])
    page.close(RunFacts(HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE[3], device=HOSTILE[6]))
    text = (tmp_path / "index.html").read_text("utf-8")
    found = Page(text)
    assert len(found.all("img")) == 2 * len(HOSTILE) and len(found.all("script")) == 1
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\ud800-\udfff]", text)
    sources = [attrs[key] for _, attrs, _ in found.found for key in ("src", "href") if key in attrs]
    assert all(re.match(r"#|data:image/(png|jpeg);base64,", source) for source in sources)
    assert SummaryPage(tmp_path).has(Path(HOSTILE[0]))


def test_feature_an_empty_run_has_a_page(tmp_path):
    SummaryPage(tmp_path / "new").close(RUN)
    assert " ".join(read(tmp_path / "new").texts).count("No image was predicted.") == 3


@pytest.mark.parametrize("content", ["", "mine", '<meta name="generator" content="evaluate.py">'])
def test_exception_a_foreign_page_is_not_replaced(tmp_path, content):
    (tmp_path / "index.html").write_text(content)
    with pytest.raises(ValueError, match=r"--save summary: .*index\.html exists"):
        SummaryPage(tmp_path)
    assert (tmp_path / "index.html").read_text() == content


def test_exception_a_page_that_becomes_foreign_keeps_the_images(tmp_path):
    page = SummaryPage(tmp_path)
    add(page, np.ones((4, 10), np.uint8), tmp_path, "a.png")
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(ValueError, match=r"index\.html"):
        page.close(RUN)
    (tmp_path / "index.html").unlink()
    assert SummaryPage(tmp_path).has(Path("a.png"))


SHARD = """
import pathlib, sys
import numpy as np
from prediction.products.summary import SummaryPage
from tests.prediction.products.test_summary import RUN, add

folder, shard = pathlib.Path(sys.argv[1]), int(sys.argv[2])
page = SummaryPage(folder)
for number in range(shard, 40, 4):
    add(page, np.full((4, 5), number % 4, np.uint8), folder, f"{number:02d}.png")
page.close(RUN)
"""


@pytest.mark.slow
def test_feature_several_processes_write_one_page(tmp_path):
    command = [sys.executable, "-c", SHARD, str(tmp_path)]
    shards = [subprocess.Popen([*command, str(n)], cwd=ROOT) for n in range(4)]
    assert [shard.wait() for shard in shards] == [0] * 4
    shown = [attrs["alt"] for attrs in read(tmp_path).all("img")][1::2]
    assert shown == [f"Mask of {n:02d}.png: {CLASSES[n % 4]} 100 %" for n in range(40)]


def test_feature_what_is_in_an_image_in_words():
    def entry(*pixels):
        classes = [ClassPixels(n, f"c{n}", "#000000", count) for n, count in enumerate(pixels)]
        return ImageEntry("a", 10, 10, tuple(classes))

    assert summary_page.describe(entry(60, 40)) == "c0 60 %, c1 40 %"
    five = "c0 50 %, c1 20 %, c2 10 %, c3 8 %, c4 6 %"
    assert summary_page.describe(entry(50, 20, 10, 8, 6, 6)) == f"{five} and one more class"
    assert summary_page.describe(entry(50, 20, 10, 8, 6, 3, 3)) == f"{five} and 2 more classes"


def test_feature_the_store_beside_the_page_is_lines_of_json(tmp_path):
    page = SummaryPage(tmp_path)
    add(page, np.ones((4, 10), np.uint8), tmp_path, "a.png")
    page.close(RUN)
    (line,) = (tmp_path / "index.html.images").read_text().splitlines()
    tree = json.loads(line)
    assert tree["key"] == "a.png" and tree["classes"] == [
        {"number": 1, "name": "road", "colour": "#800000", "pixels": 40}
    ]

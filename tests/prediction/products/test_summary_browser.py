"""The summary page in a browser."""

import json

import numpy as np
import pytest

from prediction.products.summary import RunFacts, SummaryPage
from tests.browser import Browser, find_browser
from tests.prediction.products.vector_case import facts_of, feed
from tests.report_case import HOSTILE, Case

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium on the path")
CASES = {
    "few": {"num_classes": 6, "num_images": 7},
    "many": {"num_classes": 182, "num_images": 30},
    "hostile": {"num_classes": 9, "num_images": 8, "names": HOSTILE},
}
RUN = RunFacts("saved/a/best_model.pth", "whole", "2026-11-29 12:34", "a", 1.5, "cpu")


@pytest.fixture(scope="module")
def browser():
    with Browser() as one:
        yield one


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Name -> what is predicted and the page, made when asked for."""
    made = {}

    def get(name):
        if name not in made:
            case, folder = Case(**CASES[name]), tmp_path_factory.mktemp(name)
            page = SummaryPage(folder)
            for file, seen in zip(case.files, case.predicted, strict=True):
                ids = seen.prediction.astype(np.uint8)
                feed(page.product(facts_of(ids, folder, name=file, classes=case.classes)), ids, 40,
                     image=seen.image)  # fmt: skip
            page.add_failure(folder / "broken.png", "is truncated")
            made[name] = case, page.close(RUN)
        return made[name]

    return get


@pytest.fixture
def show(browser, pages):
    def open_it(name, *size, **settings):
        case, path = pages(name)
        browser.open(path, *size, **settings)
        return case

    return open_it


def at(number):
    """Where the border of an image is."""
    return (f"document.querySelector('#image-{number} .compare')"
            ".style.getPropertyValue('--at')")  # fmt: skip


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", CASES)
def test_smoke_a_browser_shows_the_page_without_a_complaint(browser, pages, name, width):
    case, path = pages(name)
    browser.open(path, width, dark=name == "few")
    assert browser.errors == [] and browser.requests == [path.resolve().as_uri()]
    assert browser.evaluate("document.scrollingElement.scrollWidth") <= width
    undecoded = "[...document.images].filter(image => !image.complete || !image.naturalWidth)"
    assert browser.evaluate(f"{undecoded}.length") == 0
    assert browser.evaluate("document.images.length") == 2 * len(case.files)
    assert browser.evaluate("typeof window.hacked") == "undefined"
    # Everything that is to be operated has a name, and every image a description.
    nameless = ("[...document.querySelectorAll('input, button, a, img')].filter(e => !"
                "(e.ariaLabel || e.alt || e.textContent.trim()))")  # fmt: skip
    assert browser.evaluate(f"{nameless}.length") == 0


def test_feature_the_mouse_moves_the_border_of_one_image(browser, show):
    show("few", 1280)
    browser.click("#image-2 input", 0.25, 0.7)
    browser.wait(f"{at(2)} === '25%'")
    assert browser.evaluate(at(1)) == "50%"
    # The mask is cut where the line is.
    cut = "getComputedStyle(document.querySelector('#image-2 .mask')).clipPath"
    assert browser.evaluate(cut) == "inset(0px 0px 0px 25%)"
    left = ("(() => { const box = document.querySelector('#image-2 .compare'); const line ="
            " box.querySelector('.line').getBoundingClientRect();"
            " const r = box.getBoundingClientRect();"
            " return ((line.left + line.right) / 2 - r.left) / r.width; })()")  # fmt: skip
    assert browser.evaluate(left) == pytest.approx(0.25, abs=0.01)


def test_feature_dragging(browser, show):
    show("few", 1280)
    x, y = browser.place("#image-3 .compare", 0.5, 0.5)
    width = browser.evaluate("document.querySelector('#image-3 .compare').clientWidth")
    same = {"button": "left", "buttons": 1, "clickCount": 1, "y": y}
    browser._send("Input.dispatchMouseEvent", type="mousePressed", x=x, **same)
    browser._send("Input.dispatchMouseEvent", type="mouseMoved", x=x + 0.2 * width, **same)
    browser.wait(f"{at(3)} === '70%'")
    browser._send("Input.dispatchMouseEvent", type="mouseMoved", x=x + 2 * width, **same)
    browser.wait(f"{at(3)} === '100%'")
    browser._send("Input.dispatchMouseEvent", type="mouseReleased", x=x + 2 * width, **same)
    browser.hover("#image-3 .compare", 0.1)
    assert browser.evaluate(at(3)) == "100%"


def test_feature_keys_move_the_border_of_the_image_in_focus(browser, show):
    show("few", 1280)
    browser.evaluate("document.querySelector('#image-1 input').focus()")
    for _ in range(3):
        browser.press("ArrowRight")
    browser.wait(f"{at(1)} === '53%'")
    text = "document.querySelector('#image-1 input').getAttribute('aria-valuetext')"
    assert browser.evaluate(text) == "53 % image"
    browser.press("Tab")
    focus = "document.activeElement.closest('figure').id"
    assert browser.evaluate(focus) == "image-2"


@pytest.mark.parametrize("width", [1280, 390])
def test_feature_one_slider_moves_all(browser, show, width):
    show("few", width)
    browser.evaluate("document.querySelector('#all-at').focus()")
    browser.press("ArrowLeft")
    borders = (
        "[...document.querySelectorAll('.compare')].map(c => c.style.getPropertyValue('--at'))"
    )
    browser.wait(f"({borders}).every(value => value === '49%')")


def test_feature_fingers_move_the_border(browser, show):
    show("few", 390)
    browser.tap("#image-2 input", 0.8, 0.5)
    browser.wait(f"{at(2)} === '80%'")
    x, y = browser.place("#image-2 .compare", 0.8, 0.5)
    width = browser.evaluate("document.querySelector('#image-2 .compare').clientWidth")
    for kind, moved in (("touchStart", 0), ("touchMove", 0.1), ("touchMove", 0.4)):
        points = [{"x": x - moved * width, "y": y}]
        browser._send("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    browser._send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    browser.wait(f"{at(2)} === '40%'")


def test_feature_tables_are_sorted_by_their_headings(browser, show):
    case = show("few", 1280)
    counts = np.sum([np.bincount(seen.prediction.ravel(), minlength=6) for seen in case.predicted],
                    0)  # fmt: skip
    ranked = [case.classes[c] for c in np.argsort(-counts, kind="stable") if counts[c]]
    names = "[...document.querySelectorAll('#class-table tbody th')].map(th => th.dataset.v)"
    assert browser.evaluate(names) == ranked
    browser.click("#class-table th:nth-child(1) button")
    browser.wait(f"({names}).join() === {json.dumps(','.join(sorted(ranked)))}")
    # The first class's share in each image.
    kind = case.classes.index(ranked[0])
    shares = {file: float((seen.prediction == kind).mean())
              for file, seen in zip(case.files, case.predicted, strict=True)}  # fmt: skip
    browser.click("#share-table th:nth-child(3) button")
    rows = "[...document.querySelectorAll('#share-table tbody th')].map(th => th.dataset.v)"
    ordered = sorted(shares, key=lambda file: -shares[file])
    browser.wait(f"({rows}).join() === {json.dumps(','.join(ordered))}")
    value = float(
        browser.evaluate("document.querySelector('#share-table td:nth-child(3)').dataset.v")
    )
    assert value == pytest.approx(shares[ordered[0]])


def test_feature_a_name_in_the_table_leads_to_its_image(browser, show):
    case = show("many", 1280)
    browser.click("#share-table tbody tr:nth-child(20) a")
    browser.wait("document.querySelector('.tile:target')?.id === 'image-20'")
    name = "document.querySelector('.tile:target .name').textContent"
    assert browser.evaluate(name) == case.files[19]
    top = "document.querySelector('.tile:target').getBoundingClientRect().top"
    nav = "document.querySelector('nav').getBoundingClientRect().bottom"
    browser.wait(f"{top} >= {nav} && {top} < innerHeight")


@pytest.mark.parametrize("width", [1280, 390])
def test_feature_the_name_of_an_image_stays_when_the_table_scrolls(browser, show, width):
    show("many", width)
    box = "document.querySelector('#share-table').parentElement"
    assert browser.evaluate(f"{box}.scrollWidth > {box}.clientWidth")
    browser.evaluate(f"{box}.scrollLeft = 600")
    inside = ("(() => { const r = document.querySelector('#share-table tbody th')"
              f".getBoundingClientRect(), b = {box}.getBoundingClientRect();"
              " return r.left - b.left; })()")  # fmt: skip
    assert browser.evaluate(inside) == pytest.approx(1, abs=1)
    assert browser.evaluate("document.scrollingElement.scrollWidth") <= width


@pytest.mark.slow
def test_feature_dark_pages_are_dark(browser, pages):
    _, path = pages("few")
    colours = []
    for dark in (False, True):
        browser.open(path, dark=dark)
        colours.append(browser.evaluate(
            "['body', 'section', '#share-table th'].map(s => getComputedStyle("
            "document.querySelector(s)).backgroundColor.match(/\\d+/g).map(Number))"
        ))  # fmt: skip
    assert np.min(colours[0]) > 230 and np.max(colours[1]) < 50

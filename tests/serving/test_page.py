"""The page in a real browser."""

import base64
import io
import json
import time

import numpy as np
import pytest
from PIL import Image

from tests.browser import Browser, find_browser
from tests.prediction.conftest import CLASSES
from tests.prediction.program import run, write_image
from tests.serving.server import Server

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium on the path")
SIZE = (64, 48)
DONE = "document.querySelector('#status').dataset.kind === ''"


@pytest.fixture(scope="module")
def browser():
    with Browser() as one:
        yield one


@pytest.fixture(scope="module")
def two_models(model_file):
    with Server(f"first={model_file}", f"second={model_file}") as one:
        yield one


@pytest.fixture
def page(browser, two_models, folder):
    """Open the page with an image; nothing may be asked of another host, and nothing complains."""

    def open_it(width=1280, **settings):
        browser.open(f"{two_models.url}/", width, **settings)
        browser.wait("document.querySelector('#model-0').options.length === 2")
        browser.choose("#file", write_image(folder / "photo.png", SIZE))
        browser.wait(f"document.querySelectorAll('.view').length === 1 && {DONE}")
        return browser

    yield open_it
    assert browser.errors == []
    own = (two_models.url, "blob:")
    assert browser.requests and all(each.startswith(own) for each in browser.requests)


def canvas_of(browser, number=0):
    """What a view's canvas shows, (H, W, 4) uint8."""
    url = browser.evaluate(f"document.querySelectorAll('.view canvas')[{number}].toDataURL()")
    data = base64.b64decode(url.partition(",")[2])
    return np.array(Image.open(io.BytesIO(data)).convert("RGBA"))


def compare(browser):
    browser.evaluate(
        "(() => { const s = document.querySelector('#model-1'); s.value = 'second';"
        "s.dispatchEvent(new Event('change')); })()"
    )
    browser.wait(f"document.querySelectorAll('.view').length === 2 && {DONE}")


@pytest.fixture
def mask(model_file, folder):
    """What inference.py predicts for the image of the page."""
    path = write_image(folder / "photo.png", SIZE)
    assert run(model_file, "-i", path, "-o", "out", "--save", "ids,confidence") == 0
    confidence = Image.open(folder.parent / "out/photo_confidence.png")
    return Image.open(folder.parent / "out/photo.png"), np.array(confidence)


@pytest.mark.parametrize("width", [1280, 390])
def test_feature_an_upload_shows_the_mask(page, mask, width):
    browser = page(width, dark=width == 390)
    shown = canvas_of(browser)
    assert np.array_equal(shown[..., :3], np.array(mask[0].convert("RGB")))
    assert (shown[..., 3] == 255).all()
    assert browser.evaluate("document.scrollingElement.scrollWidth") <= width
    ids = np.array(mask[0])
    for number, name in enumerate(CLASSES):
        row = f"document.querySelector('#classes input[data-name={name}]').closest('li')"
        share = f"{100 * (ids == number).mean():.1f} %"
        assert share in browser.evaluate(f"{row}.innerText")
    nameless = ("[...document.querySelectorAll('input, button, a, img, select')].filter(e => !"
                "(e.ariaLabel || e.alt || e.textContent.trim() || e.labels?.length))")  # fmt: skip
    assert browser.evaluate(f"{nameless}.length") == 0


def test_feature_a_dropped_image_is_segmented(page):
    browser = page()
    browser.evaluate("""new Promise(done => {
        const canvas = document.createElement("canvas"), moved = new DataTransfer();
        [canvas.width, canvas.height] = [31, 17];
        canvas.toBlob(blob => {
            moved.items.add(new File([blob], "dropped.png"));
            const how = {dataTransfer: moved, bubbles: true};
            document.body.dispatchEvent(new DragEvent("drop", how));
            done();
        });
    })""")
    browser.wait(f"document.querySelector('.view canvas').width === 31 && {DONE}")


def test_feature_classes_are_switched_off_and_on(page, mask):
    browser, ids = page(), np.array(mask[0])
    box = "#classes input[data-name=road]"
    browser.click(box)
    assert np.array_equal(canvas_of(browser)[..., 3] == 0, ids == CLASSES.index("road"))
    browser.evaluate(f"document.querySelector('{box}').focus()")
    browser.press(" ", " ")
    browser.wait(f"document.querySelector('{box}').checked")
    assert (canvas_of(browser)[..., 3] == 255).all()
    browser.click("#none")
    assert (canvas_of(browser)[..., 3] == 0).all()
    browser.click("#all")
    assert (canvas_of(browser)[..., 3] == 255).all()


def test_feature_the_pointer_reads_class_and_confidence(page, mask):
    browser, (picture, confidence) = page(), mask
    box = browser.evaluate(
        "(r => [r.width, r.height])(document.querySelector('.stage').getBoundingClientRect())"
    )
    for x, y in ((10, 5), (50, 40), (33, 20)):
        browser.hover(".stage", (x + 0.5) / SIZE[0], (y + 0.5) / SIZE[1])
        name = CLASSES[np.array(picture)[y, x]]
        sure = f"{confidence[y, x] / 2.55:.0f} % sure at {x}, {y}"
        browser.wait(
            f"document.querySelector('.under').textContent === {json.dumps(f'{name}, {sure}')}"
        )
    assert min(box) > 100


def test_feature_the_keyboard_moves_border_point_and_opacity(page):
    browser = page()
    browser.evaluate("document.querySelector('.stage input').focus()")
    browser.press("ArrowRight")
    browser.wait("document.querySelector('.stage').style.getPropertyValue('--at') === '30.5%'")
    browser.evaluate(
        "document.querySelector('.stage input').dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'ArrowDown', shiftKey: true}))"
    )
    browser.wait("document.querySelector('.under').textContent.endsWith('at 32, 24')")
    browser.evaluate("document.querySelector('#opacity').focus()")
    browser.press("ArrowLeft")
    browser.wait("getComputedStyle(document.querySelector('.stage canvas')).opacity === '0.59'")


def test_feature_two_models_side_by_side(page):
    browser = page()
    compare(browser)
    assert np.array_equal(canvas_of(browser, 0), canvas_of(browser, 1))
    lefts = browser.evaluate(
        "[...document.querySelectorAll('.view')].map(v => v.getBoundingClientRect().left)"
    )
    assert lefts[1] > lefts[0] + 300
    browser.click(".view:nth-child(2) .stage input", 0.75, 0.5)
    at = "[...document.querySelectorAll('.stage')].map(s => s.style.getPropertyValue('--at'))"
    browser.wait(f"({at}).every(value => value === '75%')")
    assert "|" in browser.evaluate("document.querySelector('#classes .shares').textContent")


def test_feature_products_are_downloaded(page, two_models, tmp_path):
    browser = page()
    browser.download_to(tmp_path)
    photo = (tmp_path / "images/photo.png").read_bytes()
    for product, ending in (("ids", "png"), ("overlay", "png"), ("polygons", "geojson")):
        browser.click(f".downloads button[data-product={product}]")
        path = tmp_path / f"photo_first_{product}.{ending}"
        end = time.monotonic() + 20
        while not path.exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        browser.wait(f"{DONE} && !document.querySelector('.downloads button:disabled')")
        assert path.read_bytes() == two_models.predict(photo, products=product).content


def test_feature_the_camera_takes_a_picture(page):
    """Chromium's own false camera."""
    browser = page()
    browser.click("#camera")
    browser.wait("document.querySelector('#finder').open && "
                 "document.querySelector('video').videoWidth > 0")  # fmt: skip
    browser.click("#take")
    browser.wait(f"document.querySelector('.view canvas').width !== {SIZE[0]} && {DONE}")
    assert browser.evaluate("document.querySelector('video').srcObject") is None


def test_exception_a_broken_image_is_named(browser, page, tmp_path, two_models):
    page()
    path = tmp_path / "broken.png"
    path.write_bytes(b"no image")
    browser.choose("#file", path)
    browser.wait("document.querySelector('#status').dataset.kind === 'error'")
    assert "no image" in browser.evaluate("document.querySelector('#status').textContent")
    # The browser itself reports the status 415.
    assert len(browser.errors) == 1 and "415" in browser.errors.pop()
    browser.choose("#file", write_image(tmp_path / "b.png", SIZE))
    browser.wait(DONE)


def test_feature_the_page_asks_for_the_token(browser, model_file, folder):
    environment = {"SEGMENTATION_TOKEN": "a-long-secret"}
    with Server(model_file, environment=environment) as server:
        browser.open(f"{server.url}/")
        browser.wait("!document.querySelector('#ask').hidden")
        browser.click("#token")
        for letter in "a-long-secret":
            browser.press(letter, letter)
        browser.press("Enter", "\r")
        browser.wait("document.querySelector('#model-0').options.length === 1")
        browser.choose("#file", write_image(folder / "photo.png", SIZE))
        browser.wait(f"document.querySelectorAll('.view').length === 1 && {DONE}")


def test_smoke_the_documentation(browser, two_models):
    for width in (1280, 390):
        browser.open(f"{two_models.url}/docs", width)
        browser.wait("document.querySelectorAll('#calls section').length === 4")
        assert browser.errors == []
        assert browser.evaluate("document.scrollingElement.scrollWidth") <= width
        assert all(each.startswith(two_models.url) for each in browser.requests)

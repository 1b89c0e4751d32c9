"""The report page in a browser."""

import dataclasses
import json
import re

import numpy as np
import pytest

from evaluation import page_cases, page_charts
from evaluation.page import write_page
from tests.browser import Browser, find_browser
from tests.report_case import HOSTILE, Case, make

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium on the path")
CASES = {
    "two": {"num_classes": 2, "num_images": 6},
    "few": {"num_classes": 14, "num_images": 10, "unused": 1},
    "many": {"num_classes": 182, "num_images": 12, "unused": 9},
    "hostile": {"num_classes": 9, "num_images": 8, "names": HOSTILE},
}


@pytest.fixture(scope="module")
def browser():
    with Browser() as one:
        yield one


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Name -> evaluation and page, made when asked for."""
    made = {}

    def get(name):
        if name not in made:
            evaluation, predict = make(**CASES[name])
            made[name] = evaluation, write_page(evaluation, predict, tmp_path_factory.mktemp(name))
        return made[name]

    return get


@pytest.fixture
def show(browser, pages):
    """Open a page; returns its evaluation."""

    def open_it(name, *size, **settings):
        evaluation, path = pages(name)
        browser.open(path, *size, **settings)
        return evaluation

    return open_it


def words(browser, selector):
    """The text of an element, every space an ordinary one."""
    text = browser.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")
    return " ".join(text.split())


def becomes(browser, selector, expected):
    """Wait until an element says something; what a touch does comes a little after it."""
    element = f"document.querySelector({json.dumps(selector)})"
    browser.wait(f"{element}.textContent.split(/\\s+/).join(' ').trim() === {json.dumps(expected)}")


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("name", CASES)
def test_smoke_a_browser_shows_the_page_without_a_complaint(browser, pages, name, width):
    _, path = pages(name)
    browser.open(path, width, dark=name == "few")
    assert browser.errors == [] and browser.requests == [path.resolve().as_uri()]
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.scrollingElement.scrollWidth") <= width
    undecoded = "[...document.images].filter(image => !image.complete || !image.naturalWidth)"
    assert browser.evaluate(f"{undecoded}.length") == 0
    assert browser.evaluate("document.images.length") >= 4 * 6
    assert browser.evaluate("typeof window.hacked") == "undefined"


@pytest.mark.parametrize("name", ["few", "hostile"])
def test_feature_images_open_large_and_move_together(browser, show, name):
    show(name)
    browser.click("#worst-2 .views")
    is_open = "document.getElementById('lightbox').open"
    browser.wait(is_open)
    assert words(browser, "#lightbox-name") == words(browser, "#worst-2 .name")
    stages = "[...document.querySelectorAll('.stage')].map(s => [s.style.width, s.style.transform])"
    before = browser.evaluate(stages)
    assert len(before) == 4 and before.count(before[0]) == 4
    browser.wheel("[data-kind=label].pane", -300, 0.4, 0.4)
    browser.press("+")
    # exp(300 / 400) times 1.5
    larger = f"parseFloat(({stages})[0][0]) > {3 * float(before[0][0][:-2])}"
    browser.wait(larger)
    after = browser.evaluate(stages)
    assert after.count(after[0]) == 4
    hard = "getComputedStyle(document.querySelector('.pane[data-kind=label] img:last-of-type'))"
    assert browser.evaluate(f"{hard}.imageRendering") == "pixelated"
    browser.hover("[data-kind=prediction].pane", 0.45, 0.5)
    browser.wait("document.getElementById('lightbox-readout').children.length")
    assert re.fullmatch(r"Label: .+Prediction: .+", words(browser, "#lightbox-readout"))
    browser.press("ArrowRight")
    becomes(browser, "#lightbox-name", words(browser, "#worst-3 .name"))
    browser.press("Escape")
    browser.wait(f"!{is_open}")
    assert browser.evaluate("document.activeElement.closest('.case').id") == "worst-3"
    assert browser.errors == [] and browser.evaluate("typeof window.hacked") == "undefined"


def test_feature_the_focus_goes_to_the_image_shown_last_at_once(browser, show):
    """In the task that closes the lightbox, so that no key can come in between."""
    show("few")
    lightbox = "document.getElementById('lightbox')"
    focus = "document.activeElement.closest('.case').id"
    close, after = (f"document.getElementById('lightbox-{name}').click()"
                    for name in ("close", "next"))  # fmt: skip
    # Escape is asked for where its default would have closed the lightbox, too.
    escape = f"{lightbox}.dispatchEvent(new Event('cancel', {{cancelable: true}}))"
    views = "document.querySelector('#worst-2 .views')"
    opened = f"{views}.focus(); {views}.click()"
    for leave in (close, escape):
        assert browser.evaluate(f"{opened}; {after}; {leave}; [{lightbox}.open, {focus}]") == [
            False, "worst-3",
        ]  # fmt: skip
    # The browser tells of the first closing when the lightbox is open again.
    kept = browser.evaluate(
        f"new Promise(done => {{ {lightbox}.addEventListener('close', () =>"
        f" done(document.querySelectorAll('.stage').length)); {opened}; {close}; {opened}; }})"
    )
    assert kept == 4
    # However else it is closed, the focus follows.
    browser.evaluate(f"{after}; {lightbox}.close()")
    browser.wait(f"{focus} === 'worst-3'")


def test_feature_the_readout_names_the_classes_under_the_mouse(browser, show):
    """A label error's crop, its middle; the classes as the evaluation says."""
    evaluation = show("few")
    browser.click("#issue-1 .views")
    browser.wait("document.querySelector('.stage')?.style.width")
    left, top, right, bottom = page_cases.around(evaluation.issues[0].box, (96, 96 * 2))
    look = Case(**CASES["few"]).predicted[evaluation.issues[0].index]
    right, bottom = min(right, look.width), min(bottom, look.height)
    rows, columns = np.nonzero(page_cases.region_of(look, evaluation.issues[0]))
    x = (columns[0] + 0.5 - left) / (right - left)
    y = (rows[0] + 0.5 - top) / (bottom - top)
    browser.hover(".pane[data-kind=image] .stage", x, y)
    given = evaluation.classes[evaluation.issues[0].given]
    suggested = evaluation.classes[evaluation.issues[0].suggested]
    becomes(browser, "#lightbox-readout", f"Label: {given}Model: {suggested}")


def test_feature_fingers_open_and_enlarge_a_image(browser, show):
    show("few", 390, 844)
    browser.tap("#best-1 .views")
    browser.wait("document.querySelector('.stage')?.style.width")
    browser.tap("#lightbox-close")
    browser.wait("!document.getElementById('lightbox').open")
    browser.click("#best-2 .views")
    browser.wait("document.querySelector('.stage')?.style.width")
    width = "parseFloat(document.querySelector('.stage').style.width)"
    before = browser.evaluate(width)
    browser.pinch("[data-kind=image].pane", 40, 120)
    browser.wait(f"Math.abs({width} - {3 * before}) < {0.15 * before}")


def test_feature_the_class_table_is_sorted_by_its_headings(browser, show):
    evaluation = show("few")
    names = "[...document.querySelectorAll('#class-table tbody th')].map(th => th.dataset.v)"
    ious = evaluation.metrics["Class_IoU"][:13]
    ranked = sorted(range(13), key=lambda c: -ious[c])
    for column, order in (
        (2, [evaluation.classes[c] for c in ranked]),
        (2, [evaluation.classes[c] for c in ranked[::-1]]),
        (1, [f"class {c}" for c in range(13)]),
    ):
        browser.click(f"#class-table th:nth-child({column}) button")
        browser.wait(f"({names}).join() === {json.dumps(','.join(order))}")
    sorts = "document.querySelectorAll('#class-table [aria-sort]').length"
    assert browser.evaluate(sorts) == 1


def expected_readout(evaluation, row, column):
    """From the counts, by hand."""
    count, total = int(evaluation.confusion[row, column]), int(evaluation.confusion[row].sum())
    names = evaluation.classes
    if not total:
        return f"no pixel is labelled {names[row]}"
    share = 100 * count / total
    text = "<0.1 %" if 0 < share < 0.1 else f"{share:.1f} %"
    end = ", correct" if row == column else ""
    return (f"label {names[row]} predicted as {names[column]}: {text} of {names[row]} "
            f"({count:,} pixels){end}")  # fmt: skip


@pytest.mark.parametrize("width", [1400, 390])
def test_feature_the_small_matrix_reads_out_a_cell(browser, show, width):
    evaluation = show("few", width, 844)
    point = browser.hover if width > 600 else browser.tap
    for row, column in ((0, 0), (1, 2), (5, 1), (13, 0)):
        point(f"#matrix tbody tr:nth-child({row + 1}) td:nth-child({column + 2})")
        becomes(browser, "#confusion-readout", expected_readout(evaluation, row, column))
    browser.evaluate("document.getElementById('matrix').focus()")
    browser.press("ArrowRight")
    browser.press("ArrowUp")
    becomes(browser, "#confusion-readout", expected_readout(evaluation, 12, 1))


def test_feature_a_page_that_scrolls_under_a_resting_mouse_chooses_no_cell(browser, show):
    evaluation = show("few")
    browser.hover("#matrix tbody tr:nth-child(6) td:nth-child(7)")
    expected = expected_readout(evaluation, 5, 5)
    becomes(browser, "#confusion-readout", expected)
    browser.evaluate("document.getElementById('matrix').focus({preventScroll: true})")
    browser.evaluate("scrollBy({top: 90, behavior: 'instant'})")
    # The browser has noticed which cell is under the mouse now.
    browser.wait("document.querySelector('#matrix td:hover')?.parentElement.sectionRowIndex > 5")
    assert words(browser, "#confusion-readout") == expected
    browser.press("ArrowRight")
    becomes(browser, "#confusion-readout", expected_readout(evaluation, 5, 6))


def test_feature_the_large_matrix_reads_out_a_cell(browser, show):
    evaluation = show("many")
    browser.evaluate("document.getElementById('heat').focus()")
    for key in ("ArrowRight", *["ArrowRight"] * 4, *["ArrowDown"] * 7):
        browser.press(key)
    becomes(browser, "#confusion-readout", expected_readout(evaluation, 7, 4))
    browser.click("#heat-in")
    browser.wait("document.getElementById('heat-size').clientWidth > 1500")
    browser.evaluate("document.getElementById('heat').scrollTo(150, 230)")
    # What is drawn: 150 pixels of headings, then 182 cells of one size, scrolled.
    cell, x, y, width, height = browser.evaluate(
        "(() => { const b = document.getElementById('heat'); return ["
        "(document.getElementById('heat-size').clientWidth - 150) / 182, b.scrollLeft,"
        "b.scrollTop, b.offsetWidth, b.offsetHeight]; })()"
    )
    assert (x, y) == (150, 230)
    column, row = int((300 - 150 + x) / cell), int((310 - 150 + y) / cell)
    browser.hover("#heat", 301 / width, 311 / height)
    becomes(browser, "#confusion-readout", expected_readout(evaluation, row, column))
    drawn = browser.evaluate(
        "(() => { const c = document.getElementById('heat-canvas');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "const seen = new Set(); for (let i = 0; i < d.length; i += 4)"
        " seen.add(d[i] * 65536 + d[i + 1] * 256 + d[i + 2]); return [...seen]; })()"
    )
    assert int(page_charts.colour_scale()["light"][-1].ground[1:], 16) in drawn


@pytest.mark.parametrize("width", [1400, 390])
def test_feature_the_large_matrix_fits_when_asked_and_says_what_is_in_view(browser, show, width):
    """A phone starts with cells as large as a finger needs (WCAG 2.2: 24 pixels)."""
    show("many", width, 844)
    box = "document.getElementById('heat')"
    headings = 150 if width > 600 else 96
    cell = f"(document.getElementById('heat-size').clientWidth - {headings}) / 182"
    part = words(browser, "#heat-part")
    if width < 600:
        assert browser.evaluate(cell) == 24
        columns = -(-(browser.evaluate(f"{box}.clientWidth") - 96) // 24)
        assert part.startswith(f"Columns 1–{columns} and rows 1–")
    else:
        assert part.startswith("Columns 1–182 and rows 1–")
    assert part.endswith("of 182 are in view: scroll for the others.")
    browser.click("#heat-in")
    browser.wait(f"{box}.scrollWidth > {box}.clientWidth")
    browser.click("#heat-fit")
    browser.wait(f"{box}.scrollWidth === {box}.clientWidth")
    if width < 600:
        becomes(browser, "#heat-part", "All classes are in view; numbers appear in large cells.")
    # No blank below the last row.
    assert browser.evaluate(f"{box}.clientHeight <= document"
                            ".getElementById('heat-size').clientHeight")  # fmt: skip


def test_feature_the_readout_leaves_the_buttons_free(browser, show):
    show("many")
    for down in (0, 150, 300):
        browser.evaluate(
            "(() => { const section = document.getElementById('confusion');"
            f"scrollBy({{top: section.getBoundingClientRect().top + {down}, behavior: 'instant'}});"
            "})()"
        )
        assert browser.evaluate(
            "['in', 'out', 'fit'].every(id => { const b = document.getElementById(`heat-${id}`);"
            "const r = b.getBoundingClientRect(); return r.bottom < innerHeight &&"
            "document.elementFromPoint(r.left + r.width / 2, r.top + r.height / 2) === b; })"
        )


@pytest.mark.parametrize("width", [1400, 390])
def test_feature_the_section_in_view_is_marked_where_it_can_be_seen(browser, show, width):
    show("few", width, 844)
    for section in ("classes", "calibration", "issues", "all", "notes", "scores"):
        browser.evaluate(f"document.getElementById('{section}').scrollIntoView("
                         "{behavior: 'instant'})")  # fmt: skip
        browser.wait("(() => { const [link, ...more] = document.querySelectorAll("
                     "'nav [aria-current=true]'); if (!link || more.length) return false;"
                     "const r = link.getBoundingClientRect();"
                     f"return link.hash === '#{section}' && r.left >= 0 && r.right <= innerWidth;"
                     "})()")  # fmt: skip


@pytest.mark.parametrize("width", [1280, 390])
def test_feature_no_word_of_a_class_name_is_broken(browser, tmp_path, width):
    """Each line of a name ends at a joint: the pieces between them are one line high."""
    names = ["pavement", "sign_symbol", "class-001-with a fairly long name/other", "bicyclist"]
    evaluation, predict = make(num_classes=4, num_images=3, names=names)
    browser.open(write_page(evaluation, predict, tmp_path), width, 844)
    broken = browser.evaluate(
        "(() => { const bad = []; for (const name of document.querySelectorAll('.named bdi')) {"
        "  if (name.closest('.named').title !== name.textContent) bad.push(name.textContent);"
        "  for (const text of name.childNodes)"
        "  for (const m of text.textContent.matchAll(/[^ ]+/g)) {"
        "    const range = document.createRange(); range.setStart(text, m.index);"
        "    range.setEnd(text, m.index + m[0].length);"
        "    if (new Set([...range.getClientRects()].map(r => r.top)).size > 1) bad.push(m[0]); } }"
        "return bad; })()"
    )
    assert broken == []
    # Tables of pairs stay within their box, the last column too.
    assert browser.evaluate("[...document.querySelectorAll('#pairs .scroll')].every("
                            "box => box.scrollWidth <= box.clientWidth)")  # fmt: skip


def test_feature_all_images_are_listed_found_and_sorted(browser, tmp_path):
    evaluation, predict = make(num_images=2)
    one = evaluation.images[0]
    ious = [(n * 37 % 997) / 997 for n in range(500)]
    images = [one._replace(name=f"p{n:04d}", index=n, mean_iou=iou) for n, iou in enumerate(ious)]
    images[3] = images[3]._replace(mean_iou=None)
    evaluation = dataclasses.replace(evaluation, images=images, issues=[])
    browser.open(write_page(evaluation, lambda index: predict(0), tmp_path))
    names = "[...document.querySelectorAll('#all-table tbody th')].map(th => th.textContent)"
    assert browser.evaluate(names) == [image.name for image in images[:200]]
    browser.click("#all-table th:nth-child(3) button")
    browser.click("#all-more")
    browser.wait(f"({names}).length === 500")
    found = browser.evaluate(names)
    known = sorted((i for i in images if i.mean_iou is not None), key=lambda i: -i.mean_iou)
    assert found == [image.name for image in known] + ["p0003"]
    browser.evaluate("(() => { const f = document.getElementById('all-find'); f.value = 'P012';"
                     "f.dispatchEvent(new Event('input')); })()")  # fmt: skip
    assert sorted(browser.evaluate(names)) == [f"p012{n}" for n in range(10)]
    assert words(browser, "#all-count") == "10 of 500"


def test_feature_no_other_script_runs(browser, pages, tmp_path):
    """The policy names the one script by its digest, so that one put there later is refused."""
    _, path = pages("two")
    more = "<script>window.hacked = 9</script></main>"
    (tmp_path / "a.html").write_text(path.read_text("utf-8").replace("</main>", more), "utf-8")
    browser.open(tmp_path / "a.html")
    assert browser.evaluate("typeof window.hacked") == "undefined"
    assert any("Content Security Policy" in error for error in browser.errors)


@pytest.mark.slow
def test_feature_dark_pages_are_dark(browser, pages):
    _, path = pages("few")
    colours = []
    for dark in (False, True):
        browser.open(path, dark=dark)
        colours.append(browser.evaluate(
            "['body', 'section', '#matrix .s0'].map(s => getComputedStyle("
            "document.querySelector(s)).backgroundColor.match(/\\d+/g).map(Number))"
        ))  # fmt: skip
    assert np.min(colours[0]) > 230 and np.max(colours[1]) < 50

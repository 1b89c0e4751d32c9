"""The report page: its numbers and pictures, and what a browser makes of it."""

import base64
import dataclasses
import io
import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from PIL import Image

from evaluation import page_cases, page_charts, page_figures, page_pictures
from evaluation.page import render, write_page
from evaluation.page_pictures import outline
from evaluation.result import LabelIssue, PredictedImage
from tests.browser import Browser, find_browser
from tests.report_case import HOSTILE, IGNORE_FAR, Case, make
from utils.metrics.calibration import CalibrationBin

VOID = {"meta", "img", "input", "path", "rect", "link", "br", "wbr"}


class Page(HTMLParser):
    """Elements with attributes and text; fails where tags do not close in order.

    A name stays one text where a line may end in it.
    """

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.texts = [], [], []
        self.joined = False
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.joined = tag == "wbr"
        self.found.append((tag, dict(attrs), len(self.texts)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs), len(self.texts)))

    def handle_endtag(self, tag):
        self.joined = False
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.joined:
            self.texts[-1] += data
        else:
            self.texts.append(data)
        self.joined = False

    def all(self, tag, **wanted):
        """Attributes of the elements of a name that have these attributes."""
        return [attrs for name, attrs, _ in self.found if name == tag
                and all(attrs.get(key) == value for key, value in wanted.items())]  # fmt: skip

    def text_in(self, key, value):
        """The words that follow an element until the next tag of its kind."""
        (place, tag), *_ = [(n, tag) for n, (tag, attrs, _) in enumerate(self.found)
                            if attrs.get(key) == value]  # fmt: skip
        start = self.found[place][2]
        end = next((at for name, _, at in self.found[place + 1 :] if name == tag), None)
        return " ".join("".join(self.texts[start:end]).split())

    def data(self):
        at = next(at for _, attrs, at in self.found if attrs.get("id") == "report-data")
        return json.loads(self.texts[at])


def decode(address):
    """A data address as RGBA."""
    head, _, data = address.partition(";base64,")
    assert head in ("data:image/png", "data:image/jpeg")
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


@pytest.mark.parametrize("num_classes", [2, 14, 30])
def test_feature_the_page_has_the_evaluations_numbers(num_classes):
    """Read with Python's own parser, compared with the evaluation's own values."""
    evaluation, look = make(num_classes=num_classes, num_images=6)
    page = Page(render(evaluation, look))
    for figure in ("Mean_IoU", "Mean_Dice", "Pixel_Accuracy", "Mean_Accuracy", "Mean_Image_IoU",
                   "Boundary_IoU", "Boundary_F", "ECE", "FWIoU"):  # fmt: skip
        shown = page.text_in("data-figure", figure)
        assert f" {100 * evaluation.figures[figure]:.2f} %" in shown, figure
    assert f" {evaluation.figures['Kappa']:.4f}" in page.text_in("data-figure", "Kappa")
    low, high = evaluation.intervals["Mean_IoU"]
    assert f"{100 * low:.2f} – {100 * high:.2f} %" in page.text_in("data-figure", "Mean_IoU")
    values = [float(attrs["data-v"]) for attrs in page.all("td", **{"class": "num strong"})]
    known = [iou for iou in evaluation.figures["Class_IoU"] if iou is not None]
    np.testing.assert_allclose(values, known, rtol=1e-8)
    data = page.data()
    np.testing.assert_array_equal(matrix_of(data["rows"]), evaluation.confusion)
    assert [row[3] for row in data["images"]] == [image.mean_iou for image in evaluation.images]
    assert data["classes"] == list(evaluation.classes)


def matrix_of(rows):
    counts = np.zeros((len(rows),) * 2, np.int64)
    for number, flat in enumerate(rows):
        for column, count in zip(flat[::2], flat[1::2], strict=True):
            counts[number, column] = int(count)
    return counts


def test_feature_the_page_needs_nothing_beside_it(tmp_path):
    evaluation, look = make(num_images=4)
    text = write_page(evaluation, look, tmp_path / "a/b").read_text("utf-8")
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["index.html"]
    page = Page(text)
    sources = [value for _, attrs, _ in page.found for key, value in attrs.items()
               if key in ("src", "href", "srcset", "data", "action")]  # fmt: skip
    assert all(re.match(r"#|data:image/(png|jpeg);base64,", source) for source in sources)
    assert not re.search(r"url\(|@import|//[\w.]+\.\w", re.sub(r"base64,[^\"]*", "", text))
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "default-src 'none'" in policy["content"] and "img-src data:;" in policy["content"]


def test_feature_the_same_evaluation_gives_the_same_page_and_looks_once():
    evaluation, look = make(num_images=20)
    asked = []
    first = render(evaluation, lambda index: asked.append(index) or look(index))
    assert first == render(evaluation, look)
    shown = set(map(page_number, re.findall(r'id="((?:worst|best)-\d+)"', first)))
    assert len(asked) == len(set(asked)) and len(shown) == 16


def page_number(key):
    kind, number = key.split("-")
    return kind, int(number)


def test_feature_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path):
    evaluation, look = make(num_images=2)
    path = write_page(evaluation, look, tmp_path)
    before = path.read_bytes()

    def broken(index):
        raise ValueError("gone")

    with pytest.raises(ValueError, match="gone"):
        write_page(evaluation, broken, tmp_path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_feature_names_are_text_whatever_they_look_like():
    evaluation, look = make(num_classes=9, names=HOSTILE)
    evaluation = dataclasses.replace(
        evaluation, checkpoint=HOSTILE[1], notes=HOSTILE[:2], arch=HOSTILE[0], command=HOSTILE[2]
    )
    text = render(evaluation, look)
    page = Page(text)
    assert len(page.all("script")) == 2
    assert not any(key.startswith("on") for _, attrs, _ in page.found for key in attrs)
    assert all(img["src"].startswith("data:image/") for img in page.all("img"))
    assert "{{ 7 * 7 }} & <!-- '" in page.texts
    assert page.data()["classes"][0] == HOSTILE[0]
    text.encode("utf-8")  # no half of a surrogate pair is left
    assert "\u202e" not in text and r"\u202e" not in text and "\x00" not in text


def test_feature_pictures_are_those_of_the_look():
    """Colours looked up pixel by pixel in the palette; the errors by comparison."""
    case = Case(num_images=3)
    evaluation = case.evaluation()
    cases = page_cases.make_cases(evaluation, case.look)
    shown = [*cases.worst, *cases.best]
    assert len(shown) == 3 and cases.places() == {c.place: c.key for c in shown}
    for found in shown:
        look = case.looks[found.place]
        assert found.name == case.files[found.place]
        pictures = {view.kind: decode(view.address) for view in found.views}
        palette = np.array(case.palette)
        ignored = look.label == IGNORE_FAR
        np.testing.assert_array_equal(pictures["prediction"][..., :3], palette[look.prediction])
        np.testing.assert_array_equal(
            pictures["label"][~ignored][:, :3], palette[look.label[~ignored]]
        )
        assert np.abs(pictures["picture"][..., :3].astype(int) - look.picture).mean() < 12  # JPEG
        opacity = pictures["error"][..., 3]
        wrong = (look.label != look.prediction) & ~ignored
        np.testing.assert_array_equal(opacity == 235, wrong)
        np.testing.assert_array_equal(opacity == 170, ignored)
        np.testing.assert_array_equal(opacity == 0, ~wrong & ~ignored)


def test_feature_large_pictures_are_scaled_down_and_stay_within_the_budget(monkeypatch):
    evaluation, _ = make(num_images=1)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 6, (1000, 2000))
    look = PredictedImage(
        rng.integers(0, 256, (1000, 2000, 3), dtype=np.uint8), ids, ids, 1000, 2000
    )
    (case,) = page_cases.make_cases(evaluation, lambda index: look).worst
    assert case.size == (900, 450) and case.full == (2000, 1000)
    assert {decode(view.address).shape[:2] for view in case.views} == {(450, 900)}
    monkeypatch.setattr(page_cases, "BUDGET", 200_000)
    (case,) = page_cases.make_cases(evaluation, lambda index: look).worst
    assert sum(len(view.address) for view in case.views) <= 200_000 and case.size[0] < 900


def test_feature_more_than_256_classes_in_one_picture_keep_their_colours():
    evaluation, _ = make(num_images=1)
    palette = tuple((n % 256, n // 256, 7) for n in range(400))
    evaluation = dataclasses.replace(
        evaluation, classes=tuple(map(str, range(400))), palette=palette, issues=[]
    )
    ids = np.arange(400).reshape(20, 20)
    look = PredictedImage(np.zeros((20, 20, 3), np.uint8), ids, ids, 20, 20)
    (case,) = page_cases.make_cases(evaluation, lambda index: look).worst
    np.testing.assert_array_equal(decode(case.views[1].address)[..., :3], np.array(palette)[ids])
    assert len(case.chips) == 8 and case.more == 392


@pytest.mark.parametrize("number", [0, 1, 5, 40])
def test_cardinality_no_picture_is_both_worst_and_best(number):
    evaluation, _ = make(num_images=1)
    image = evaluation.images[0]
    images = [image._replace(index=n, mean_iou=(n * 7 % 11) / 11) for n in range(number)]
    images.append(image._replace(index=99, mean_iou=None))
    worst, best = page_cases.choose(images)
    ranked = sorted(image.mean_iou for image in images[:-1])
    assert [image.mean_iou for image in worst] == ranked[: len(worst)]
    assert [image.mean_iou for image in best] == ranked[::-1][: len(best)]
    assert len(worst) + len(best) == min(16, number)
    assert not {image.index for image in worst} & {image.index for image in best}


def test_feature_a_label_error_is_outlined_where_it_is():
    """Of two regions in the box the one of its size, drawn along its pixels' edges."""
    label, prediction = np.zeros((60, 80), int), np.zeros((60, 80), int)
    prediction[20:30, 30:50] = 1
    prediction[22:24, 52:54] = 1
    look = PredictedImage(np.zeros((60, 80, 3), np.uint8), label, prediction, 60, 80)
    issue = LabelIssue(0, "a", 0, 1, 0.5, 200, (30, 20, 54, 30))
    region = page_cases.region_of(look, issue)
    expected = np.zeros((60, 80), bool)
    expected[20:30, 30:50] = True
    np.testing.assert_array_equal(region, expected)
    points = np.array(re.findall(r"([\d.]+) ([\d.]+)", outline(region)), float)
    assert points.min(0).tolist() == pytest.approx([30, 20], abs=0.5)
    assert points.max(0).tolist() == pytest.approx([50, 30], abs=0.5)
    assert page_cases.around(issue.box, (60, 80)) == (0, 0, 80, 60)
    assert page_cases.around((500, 400, 600, 410), (1000, 1000)) == (440, 360, 660, 450)


def test_feature_a_label_error_that_is_predicted_otherwise_now_shows_its_box():
    flat = np.zeros((60, 80), int)
    look = PredictedImage(np.zeros((60, 80, 3), np.uint8), flat, flat, 60, 80)
    region = page_cases.region_of(look, LabelIssue(0, "a", 0, 1, 0.5, 9, (10, 20, 13, 23)))
    assert region.sum() == 9 and region[20:23, 10:13].all()


def test_feature_one_pair_of_classes_does_not_fill_the_label_errors():
    """By hand: three of each pair in their order, then the others in theirs."""
    pairs = [(0, 1)] * 20 + [(1, 0)] * 2 + [(2, 1)] * 5 + [(0, 2)]
    issues = [LabelIssue(n, f"p{n}", *pair, 1 - n / 100, 9, (0, 0, 3, 3))
              for n, pair in enumerate(pairs)]  # fmt: skip
    shown, hidden = page_cases.choose_issues(issues)
    first = [0, 1, 2, 20, 21, 22, 23, 24, 27]
    assert [issue.index for issue in shown] == [*first, *range(3, 18)]
    assert [issue.index for issue in hidden] == [18, 19, 25, 26]
    evaluation, look = make(num_images=1, num_classes=3)
    evaluation = dataclasses.replace(evaluation, issues=issues)
    cases = page_cases.make_cases(evaluation, lambda index: look(0))
    assert cases.more_issues == [((0, 1), 2), ((2, 1), 2)]
    words = " ".join(" ".join(Page(render(evaluation, lambda index: look(0))).texts).split())
    assert "writes are 4 more: 2 × class 0 → class 1 , 2 × class 2 → class 1" in words


def test_feature_ignored_pixels_cannot_be_taken_for_right_ones():
    """Those show a grey picture: the colour over it is none (CIELAB, by OpenCV), nor the error's.

    The legend has the same colours.
    """
    evaluation, look = make(num_images=1)
    colours = np.array([page_pictures.ERROR_COLOURS[kind] for kind in (1, 2)])
    lab = cv2.cvtColor((colours[None] / 255).astype(np.float32), cv2.COLOR_RGB2LAB)[0]
    assert np.linalg.norm(lab[:, 1:], axis=1).min() > 40
    assert np.linalg.norm(lab[0] - lab[1]) > 60
    swatches = [attrs["style"] for attrs in Page(render(evaluation, look)).all("i")
                if "style" in attrs]  # fmt: skip
    for red, green, blue in colours.tolist():
        assert f"background:#{red:02x}{green:02x}{blue:02x}" in swatches


def test_feature_a_name_breaks_at_its_joints_alone():
    assert page_figures.parts("sign_symbol") == ["sign_", "symbol"]
    assert page_figures.parts("a-b/c.png") == ["a-", "b/", "c.", "png"]
    assert page_figures.parts("pavement") == ["pavement"] and page_figures.parts("_") == ["_"]


def test_feature_figures_without_an_interval_have_no_range():
    evaluation, look = make(num_images=2)
    for missing in ({}, {"Mean_IoU": None, "Class_IoU": None},
                    {"Mean_IoU": (None, None), "Class_IoU": [None] * 6},
                    {"Mean_IoU": (np.nan, np.nan)}):  # fmt: skip
        page = Page(render(dataclasses.replace(evaluation, intervals=missing), look))
        assert not page.all("path", **{"class": "whisker"})
        assert not page.all("span", **{"class": "interval"})
        assert "95 % interval" not in " ".join(page.texts)
    page = Page(render(evaluation, look))
    assert len(page.all("path", **{"class": "whisker"})) == 6
    assert len(page.all("span", **{"class": "interval"})) == 2


def test_feature_the_most_confused_pairs_are_ranked_by_share_and_by_pixels():
    evaluation, _ = make(num_images=1, num_classes=3)
    counts = np.array([[50, 30, 20], [0, 900, 100], [4, 6, 0]])
    pairs = page_figures.confused_pairs(dataclasses.replace(evaluation, confusion=counts))
    assert [(p.given, p.predicted, p.share, p.pixels) for p in pairs["share"]] == [
        (2, 1, 0.6, 6), (2, 0, 0.4, 4), (0, 1, 0.3, 30), (0, 2, 0.2, 20), (1, 2, 0.1, 100),
    ]  # fmt: skip
    assert [p.pixels for p in pairs["pixels"]] == [100, 30, 20, 6, 4]


def test_feature_counts_beyond_a_browsers_numbers_stay_exact():
    counts = np.array([[2**53 + 1, 3], [0, 2**60 + 1]])
    rows = json.loads(json.dumps(page_charts.sparse_rows(counts)))
    assert rows == [[0, str(2**53 + 1), 1, 3], [1, str(2**60 + 1)]]
    np.testing.assert_array_equal(matrix_of(rows), counts)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_feature_the_colour_scale_is_even_and_its_numbers_can_be_read(theme):
    """Lightness (CIELAB, by OpenCV) goes one way; contrast by WCAG's formula is at least 4.5."""
    levels = page_charts.colour_scale()[theme]
    colours = np.array([[int(level.ground[i : i + 2], 16) for i in (1, 3, 5)] for level in levels])
    lab = cv2.cvtColor((colours[None] / 255).astype(np.float32), cv2.COLOR_RGB2LAB)[0]
    steps = np.diff(lab[:, 0]) * (-1 if theme == "light" else 1)
    assert steps.min() > 0 and steps.max() < 5
    assert np.linalg.norm(np.diff(lab, axis=0), axis=1).max() < 35
    for level, colour in zip(levels, colours, strict=True):
        bright = page_charts.luminance(colour.tolist()) + 0.05
        assert (1.05 / bright if level.ink == "#fff" else bright / 0.05) >= 4.5
    # Between shades of grey: the worked examples of WCAG 2, 21:1 for black on white.
    assert page_charts.luminance((255, 255, 255)) == 1 and page_charts.luminance((0, 0, 0)) == 0


@pytest.mark.parametrize(
    ("confidence", "accuracy", "verdict"),
    [(0.9, 0.8, "overconfident"), (0.7, 0.75, "underconfident"), (0.8, 0.804, "about as sure")],
)
def test_feature_calibration_is_put_into_words(confidence, accuracy, verdict):
    found = calibrated((10, confidence, accuracy))
    assert found.verdict.startswith(verdict)
    assert found.groups == [(1, pytest.approx(confidence), pytest.approx(accuracy))]
    assert calibrated() is None


def calibrated(*bins):
    """The diagram of bins (pixels, confidence, accuracy), after one without a pixel."""
    evaluation, _ = make(num_images=1)
    found = [CalibrationBin(0.0, 0.0, 0, None, None)]
    found += [CalibrationBin(b[1] - 0.01, b[1] + 0.01, *b) for b in bins]
    return page_charts.reliability(dataclasses.replace(evaluation, calibration=found))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        ((0.3, 0.55), (0.8, 0.6), "too careful where it is unsure, too sure where it is sure"),
        ((0.3, 0.1), (0.8, 0.99), "too sure where it is unsure, too careful where it is sure"),
        ((0.5, 0.3), (0.55, 0.75), "too careful in some places, too sure in others"),
    ],
)
def test_feature_errors_of_confidence_that_cancel_are_not_called_small(low, high, verdict):
    """By hand: 60 pixels in one bin, 40 in the other, a mean gap of a few per cent at most."""
    found = calibrated((60, *low), (40, *high))
    assert found.verdict == verdict
    assert found.groups == [pytest.approx((0.6, *low)), pytest.approx((0.4, *high))]
    evaluation, look = make(num_images=1)
    bins = [CalibrationBin(0.2, 0.4, 60, *low), CalibrationBin(0.6, 0.9, 40, *high)]
    text = Page(render(dataclasses.replace(evaluation, calibration=bins), look))
    words = text.text_in("class", "verdict").replace("\u00a0", " ")
    assert words.startswith(
        f"The model is {verdict}: it is {100 * low[0]:.1f} % sure on average of 60 % of the "
        f"pixels and right in {100 * low[1]:.1f} % of them; of the other 40 % it is "
    )


def test_feature_a_gap_stands_on_the_accuracy_and_hides_none_of_it():
    """Drawn over each other, a see-through gap has another colour than in the legend."""
    evaluation, look = make(num_images=1)
    bins = [CalibrationBin(0.2, 0.4, 9, 0.3, 0.5), CalibrationBin(0.6, 0.8, 9, 0.7, 0.6)]
    page = Page(render(dataclasses.replace(evaluation, calibration=bins), look))
    blue = page.all("rect", **{"class": "accuracy"})
    gaps = page.all("rect", **{"class": "gap careful"}) + page.all("rect", **{"class": "gap"})
    for accuracy, gap, (low, high) in zip(blue, gaps, [(0.3, 0.5), (0.6, 0.7)], strict=True):
        assert float(accuracy["height"]) == pytest.approx(350 * low)
        assert float(gap["height"]) == pytest.approx(350 * (high - low))
        assert float(gap["y"]) + float(gap["height"]) == pytest.approx(float(accuracy["y"]))


def test_feature_a_split_without_a_label_has_a_page_too():
    evaluation, look = make(num_images=2)
    nothing = [None] * 6
    evaluation = dataclasses.replace(
        evaluation, figures={"Mean_IoU": float("nan"), "Class_IoU": nothing}, intervals={},
        confusion=np.zeros((6, 6), np.int64), calibration=[], issues=[], skipped=[],
        images=[image._replace(mean_iou=None, pixel_accuracy=None, labelled=0)
                for image in evaluation.images],
    )  # fmt: skip
    page = Page(render(evaluation, look))
    words = " ".join(page.texts)
    for sentence in ("No pixel counts.", "None was found.", "No picture has a labelled pixel.",
                     "No confidence was measured.", "No pixel is wrong."):  # fmt: skip
        assert sentence in words
    assert page.text_in("data-figure", "Mean_IoU").startswith("Mean IoU –")


def test_feature_shares_as_text():
    shown = [page_figures.percent(value) for value in (0.1234, 0.0, 0.0004, 1.0, None, np.nan)]
    assert [text.replace("\u00a0", " ") for text in shown] == [
        "12.3 %", "0.0 %", "<0.1 %", "100.0 %", "–", "–",
    ]  # fmt: skip


# ---------------------------------------------------------------- in a browser


browsers = pytest.mark.skipif(find_browser() is None, reason="no Chromium on the path")
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
            evaluation, look = make(**CASES[name])
            made[name] = evaluation, write_page(evaluation, look, tmp_path_factory.mktemp(name))
        return made[name]

    return get


def words(browser, selector):
    """The text of an element, every space an ordinary one."""
    text = browser.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")
    return " ".join(text.split())


def becomes(browser, selector, expected):
    """Wait until an element says something; what a touch does comes a little after it."""
    element = f"document.querySelector({json.dumps(selector)})"
    browser.wait(f"{element}.textContent.split(/\\s+/).join(' ').trim() === {json.dumps(expected)}")


@browsers
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


@browsers
@pytest.mark.parametrize("name", ["few", "hostile"])
def test_feature_pictures_open_large_and_move_together(browser, pages, name):
    _, path = pages(name)
    browser.open(path)
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


@browsers
def test_feature_the_focus_goes_to_the_picture_shown_last_at_once(browser, pages):
    """In the task that closes the lightbox, so that no key can come in between."""
    _, path = pages("few")
    browser.open(path)
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


@browsers
def test_feature_the_readout_names_the_classes_under_the_mouse(browser, pages):
    """A label error's crop, its middle; the classes as the evaluation says."""
    evaluation, path = pages("few")
    browser.open(path)
    browser.click("#issue-1 .views")
    browser.wait("document.querySelector('.stage')?.style.width")
    left, top, right, bottom = page_cases.around(evaluation.issues[0].box, (96, 96 * 2))
    look = Case(**CASES["few"]).looks[evaluation.issues[0].index]
    right, bottom = min(right, look.width), min(bottom, look.height)
    rows, columns = np.nonzero(page_cases.region_of(look, evaluation.issues[0]))
    x = (columns[0] + 0.5 - left) / (right - left)
    y = (rows[0] + 0.5 - top) / (bottom - top)
    browser.hover(".pane[data-kind=picture] .stage", x, y)
    given = evaluation.classes[evaluation.issues[0].given]
    suggested = evaluation.classes[evaluation.issues[0].suggested]
    becomes(browser, "#lightbox-readout", f"Label: {given}Model: {suggested}")


@browsers
def test_feature_fingers_open_and_enlarge_a_picture(browser, pages):
    _, path = pages("few")
    browser.open(path, 390, 844)
    browser.tap("#best-1 .views")
    browser.wait("document.querySelector('.stage')?.style.width")
    browser.tap("#lightbox-close")
    browser.wait("!document.getElementById('lightbox').open")
    browser.click("#best-2 .views")
    browser.wait("document.querySelector('.stage')?.style.width")
    width = "parseFloat(document.querySelector('.stage').style.width)"
    before = browser.evaluate(width)
    browser.pinch("[data-kind=picture].pane", 40, 120)
    browser.wait(f"Math.abs({width} - {3 * before}) < {0.15 * before}")


@browsers
def test_feature_the_class_table_is_sorted_by_its_headings(browser, pages):
    evaluation, path = pages("few")
    browser.open(path)
    names = "[...document.querySelectorAll('#class-table tbody th')].map(th => th.dataset.v)"
    ious = evaluation.figures["Class_IoU"][:13]
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
    end = ", right" if row == column else ""
    return (f"label {names[row]} predicted as {names[column]}: {text} of {names[row]} "
            f"({count:,} pixels){end}")  # fmt: skip


@browsers
@pytest.mark.parametrize("width", [1400, 390])
def test_feature_the_small_matrix_reads_out_a_cell(browser, pages, width):
    evaluation, path = pages("few")
    browser.open(path, width, 844)
    point = browser.hover if width > 600 else browser.tap
    for row, column in ((0, 0), (1, 2), (5, 1), (13, 0)):
        point(f"#matrix tbody tr:nth-child({row + 1}) td:nth-child({column + 2})")
        becomes(browser, "#confusion-readout", expected_readout(evaluation, row, column))
    browser.evaluate("document.getElementById('matrix').focus()")
    browser.press("ArrowRight")
    browser.press("ArrowUp")
    becomes(browser, "#confusion-readout", expected_readout(evaluation, 12, 1))


@browsers
def test_feature_a_page_that_scrolls_under_a_resting_mouse_chooses_no_cell(browser, pages):
    evaluation, path = pages("few")
    browser.open(path)
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


@browsers
def test_feature_the_large_matrix_reads_out_a_cell(browser, pages):
    evaluation, path = pages("many")
    browser.open(path)
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


@browsers
@pytest.mark.parametrize("width", [1400, 390])
def test_feature_the_large_matrix_fits_when_asked_and_says_what_is_in_view(browser, pages, width):
    """A phone starts with cells as large as a finger needs (WCAG 2.2: 24 pixels)."""
    _, path = pages("many")
    browser.open(path, width, 844)
    box = "document.getElementById('heat')"
    cell = (
        f"(document.getElementById('heat-size').clientWidth - {150 if width > 600 else 96}) / 182"
    )
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


@browsers
def test_feature_the_readout_leaves_the_buttons_free(browser, pages):
    _, path = pages("many")
    browser.open(path)
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


@browsers
@pytest.mark.parametrize("width", [1400, 390])
def test_feature_the_section_in_view_is_marked_where_it_can_be_seen(browser, pages, width):
    _, path = pages("few")
    browser.open(path, width, 844)
    for section in ("classes", "calibration", "issues", "all", "notes", "scores"):
        browser.evaluate(f"document.getElementById('{section}').scrollIntoView("
                         "{behavior: 'instant'})")  # fmt: skip
        browser.wait("(() => { const [link, ...more] = document.querySelectorAll("
                     "'nav [aria-current=true]'); if (!link || more.length) return false;"
                     "const r = link.getBoundingClientRect();"
                     f"return link.hash === '#{section}' && r.left >= 0 && r.right <= innerWidth;"
                     "})()")  # fmt: skip


@browsers
@pytest.mark.parametrize("width", [1280, 390])
def test_feature_no_word_of_a_class_name_is_broken(browser, tmp_path, width):
    """Each line of a name ends at a joint: the pieces between them are one line high."""
    names = ["pavement", "sign_symbol", "class-001-with a fairly long name/other", "bicyclist"]
    evaluation, look = make(num_classes=4, num_images=3, names=names)
    browser.open(write_page(evaluation, look, tmp_path), width, 844)
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


@browsers
def test_feature_all_images_are_listed_found_and_sorted(browser, tmp_path):
    evaluation, look = make(num_images=2)
    one = evaluation.images[0]
    images = [
        one._replace(name=f"p{n:04d}", index=n, mean_iou=(n * 37 % 997) / 997) for n in range(500)
    ]
    images[3] = images[3]._replace(mean_iou=None)
    evaluation = dataclasses.replace(evaluation, images=images, issues=[])
    browser.open(write_page(evaluation, lambda index: look(0), tmp_path))
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


@browsers
def test_feature_no_other_script_runs(browser, pages, tmp_path):
    """The policy names the one script by its digest, so that one put there later is refused."""
    _, path = pages("two")
    text = path.read_text("utf-8")
    (tmp_path / "a.html").write_text(
        text.replace("</main>", "<script>window.hacked = 9</script></main>"), "utf-8"
    )
    browser.open(tmp_path / "a.html")
    assert browser.evaluate("typeof window.hacked") == "undefined"
    assert any("Content Security Policy" in error for error in browser.errors)


@browsers
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

"""The report page: its numbers, images and words; test_report_browser.py shows it."""

import base64
import dataclasses
import io
import json
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from evaluation import page_cases, page_charts, page_images, page_metrics
from evaluation.page import render, write_page
from evaluation.page_images import outline
from evaluation.result import LabelIssue, PredictedImage
from tests.html_page import Page
from tests.report_case import HOSTILE, IGNORE_FAR, Case, make
from utils.metrics.calibration import CalibrationBin


def decode(address):
    """A data address as RGBA."""
    head, _, data = address.partition(";base64,")
    assert head in ("data:image/png", "data:image/jpeg")
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


@pytest.mark.parametrize("num_classes", [2, 14, 30])
def test_feature_the_page_has_the_evaluations_numbers(num_classes):
    """Read with Python's own parser, compared with the evaluation's own values."""
    evaluation, predict = make(num_classes=num_classes, num_images=6)
    page = Page(render(evaluation, predict))
    for metric in ("Mean_IoU", "Mean_Dice", "Pixel_Accuracy", "Mean_Accuracy", "Mean_Image_IoU",
                   "Boundary_IoU", "Boundary_F", "ECE", "FWIoU"):  # fmt: skip
        shown = page.text_in("data-metric", metric)
        assert f" {100 * evaluation.metrics[metric]:.2f} %" in shown, metric
    assert f" {evaluation.metrics['Kappa']:.4f}" in page.text_in("data-metric", "Kappa")
    low, high = evaluation.intervals["Mean_IoU"]
    assert f"{100 * low:.2f} – {100 * high:.2f} %" in page.text_in("data-metric", "Mean_IoU")
    values = [float(attrs["data-v"]) for attrs in page.all("td", **{"class": "num strong"})]
    known = [iou for iou in evaluation.metrics["Class_IoU"] if iou is not None]
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
    evaluation, predict = make(num_images=4)
    text = write_page(evaluation, predict, tmp_path / "a/b").read_text("utf-8")
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["index.html"]
    page = Page(text)
    sources = [value for _, attrs, _ in page.found for key, value in attrs.items()
               if key in ("src", "href", "srcset", "data", "action")]  # fmt: skip
    assert all(re.match(r"#|data:image/(png|jpeg);base64,", source) for source in sources)
    assert not re.search(r"url\(|@import|//[\w.]+\.\w", re.sub(r"base64,[^\"]*", "", text))
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "default-src 'none'" in policy["content"] and "img-src data:;" in policy["content"]


def test_feature_the_same_evaluation_gives_the_same_page_and_looks_once():
    evaluation, predict = make(num_images=20)
    asked = []
    first = render(evaluation, lambda index: asked.append(index) or predict(index))
    assert first == render(evaluation, predict)
    shown = set(map(page_number, re.findall(r'id="((?:worst|best)-\d+)"', first)))
    assert len(asked) == len(set(asked)) and len(shown) == 16


def page_number(key):
    kind, number = key.split("-")
    return kind, int(number)


def test_feature_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path):
    evaluation, predict = make(num_images=2)
    path = write_page(evaluation, predict, tmp_path)
    before = path.read_bytes()

    def broken(index):
        raise ValueError("gone")

    with pytest.raises(ValueError, match="gone"):
        write_page(evaluation, broken, tmp_path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_feature_names_are_text_whatever_they_look_like():
    evaluation, predict = make(num_classes=9, names=HOSTILE)
    evaluation = dataclasses.replace(
        evaluation, checkpoint=HOSTILE[1], notes=HOSTILE[:2], arch=HOSTILE[0], command=HOSTILE[2]
    )
    text = render(evaluation, predict)
    page = Page(text)
    assert len(page.all("script")) == 2
    assert not any(key.startswith("on") for _, attrs, _ in page.found for key in attrs)
    assert all(img["src"].startswith("data:image/") for img in page.all("img"))
    assert "{{ 7 * 7 }} & <!-- '" in page.texts
    assert page.data()["classes"][0] == HOSTILE[0]
    text.encode("utf-8")  # no half of a surrogate pair is left
    assert "\u202e" not in text and r"\u202e" not in text and "\x00" not in text


def test_feature_images_are_those_of_the_look():
    """Colours looked up pixel by pixel in the palette; the errors by comparison."""
    case = Case(num_images=3)
    evaluation = case.evaluation()
    cases = page_cases.make_cases(evaluation, case.predict)
    shown = [*cases.worst, *cases.best]
    assert len(shown) == 3 and cases.keys_by_index() == {c.image_index: c.key for c in shown}
    for found in shown:
        look = case.predicted[found.image_index]
        assert found.name == case.files[found.image_index]
        images = {view.kind: decode(view.url) for view in found.views}
        palette = np.array(case.palette)
        ignored = look.label == IGNORE_FAR
        np.testing.assert_array_equal(images["prediction"][..., :3], palette[look.prediction])
        np.testing.assert_array_equal(
            images["label"][~ignored][:, :3], palette[look.label[~ignored]]
        )
        assert np.abs(images["image"][..., :3].astype(int) - look.image).mean() < 12  # JPEG
        opacity = images["error"][..., 3]
        wrong = (look.label != look.prediction) & ~ignored
        np.testing.assert_array_equal(opacity == 235, wrong)
        np.testing.assert_array_equal(opacity == 170, ignored)
        np.testing.assert_array_equal(opacity == 0, ~wrong & ~ignored)


def test_feature_large_images_are_scaled_down_and_stay_within_the_budget(monkeypatch):
    evaluation, _ = make(num_images=1)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 6, (1000, 2000))
    look = PredictedImage(
        rng.integers(0, 256, (1000, 2000, 3), dtype=np.uint8), ids, ids, 1000, 2000
    )
    (case,) = page_cases.make_cases(evaluation, lambda index: look).worst
    assert case.size == (900, 450) and case.full == (2000, 1000)
    assert {decode(view.url).shape[:2] for view in case.views} == {(450, 900)}
    monkeypatch.setattr(page_cases, "BUDGET", 200_000)
    (case,) = page_cases.make_cases(evaluation, lambda index: look).worst
    assert sum(len(view.url) for view in case.views) <= 200_000 and case.size[0] < 900


def test_feature_more_than_256_classes_in_one_image_keep_their_colours():
    evaluation, _ = make(num_images=1)
    palette = tuple((n % 256, n // 256, 7) for n in range(400))
    evaluation = dataclasses.replace(
        evaluation, classes=tuple(map(str, range(400))), palette=palette, issues=[]
    )
    ids = np.arange(400).reshape(20, 20)
    look = PredictedImage(np.zeros((20, 20, 3), np.uint8), ids, ids, 20, 20)
    (case,) = page_cases.make_cases(evaluation, lambda index: look).worst
    np.testing.assert_array_equal(decode(case.views[1].url)[..., :3], np.array(palette)[ids])
    assert len(case.chips) == 8 and case.more == 392


@pytest.mark.parametrize("number", [0, 1, 5, 40])
def test_cardinality_no_image_is_both_worst_and_best(number):
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
    evaluation, predict = make(num_images=1, num_classes=3)
    evaluation = dataclasses.replace(evaluation, issues=issues)
    cases = page_cases.make_cases(evaluation, lambda index: predict(0))
    assert cases.more_issues == [((0, 1), 2), ((2, 1), 2)]
    words = " ".join(" ".join(Page(render(evaluation, lambda index: predict(0))).texts).split())
    assert "has 4 more: 2 × class 0 → class 1 , 2 × class 2 → class 1" in words


def test_feature_ignored_pixels_cannot_be_taken_for_right_ones():
    """Those show a grey image: the colour over it is none (CIELAB, by OpenCV), nor the error's.

    The legend has the same colours.
    """
    evaluation, predict = make(num_images=1)
    colours = np.array([page_images.ERROR_COLOURS[kind] for kind in (1, 2)])
    lab = cv2.cvtColor((colours[None] / 255).astype(np.float32), cv2.COLOR_RGB2LAB)[0]
    assert np.linalg.norm(lab[:, 1:], axis=1).min() > 40
    assert np.linalg.norm(lab[0] - lab[1]) > 60
    swatches = [attrs["style"] for attrs in Page(render(evaluation, predict)).all("i")
                if "style" in attrs]  # fmt: skip
    for red, green, blue in colours.tolist():
        assert f"background:#{red:02x}{green:02x}{blue:02x}" in swatches


def test_feature_figures_without_an_interval_have_no_range():
    evaluation, predict = make(num_images=2)
    for missing in ({}, {"Mean_IoU": None, "Class_IoU": None},
                    {"Mean_IoU": (None, None), "Class_IoU": [None] * 6},
                    {"Mean_IoU": (np.nan, np.nan)}):  # fmt: skip
        page = Page(render(dataclasses.replace(evaluation, intervals=missing), predict))
        assert not page.all("path", **{"class": "whisker"})
        assert not page.all("span", **{"class": "interval"})
        assert "95 % interval" not in " ".join(page.texts)
    page = Page(render(evaluation, predict))
    assert len(page.all("path", **{"class": "whisker"})) == 6
    assert len(page.all("span", **{"class": "interval"})) == 2


def test_feature_the_most_confused_pairs_are_ranked_by_fraction_and_by_pixels():
    evaluation, _ = make(num_images=1, num_classes=3)
    counts = np.array([[50, 30, 20], [0, 900, 100], [4, 6, 0]])
    pairs = page_metrics.confused_pairs(dataclasses.replace(evaluation, confusion=counts))
    assert [(p.given, p.predicted, p.fraction, p.pixels) for p in pairs["fraction"]] == [
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
    [(0.9, 0.8, "overconfident"), (0.7, 0.75, "underconfident"), (0.8, 0.804, "well calibrated")],
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
        ((0.3, 0.55), (0.8, 0.6), "underconfident at low .*, overconfident at high"),
        ((0.3, 0.1), (0.8, 0.99), "overconfident at low .*, underconfident at high"),
        ((0.5, 0.3), (0.55, 0.75), "underconfident in some .*, overconfident in others"),
    ],
)
def test_feature_errors_of_confidence_that_cancel_are_not_called_small(low, high, verdict):
    """By hand: 60 pixels in one bin, 40 in the other, a mean gap of a few per cent at most."""
    found = calibrated((60, *low), (40, *high))
    assert re.match(verdict, found.verdict)
    assert found.groups == [pytest.approx((0.6, *low)), pytest.approx((0.4, *high))]
    evaluation, predict = make(num_images=1)
    bins = [CalibrationBin(0.2, 0.4, 60, *low), CalibrationBin(0.6, 0.9, 40, *high)]
    text = Page(render(dataclasses.replace(evaluation, calibration=bins), predict))
    words = text.text_in("class", "verdict").replace("\u00a0", " ")
    assert words.startswith(f"The model is {found.verdict}: ")
    shown = [float(number) for number in re.findall(r"[\d.]+(?= %)", words)[:6]]
    assert shown == [pytest.approx(100 * v) for v in (low[0], 0.6, low[1], 0.4, *high)]


def test_feature_a_gap_stands_on_the_accuracy_and_hides_none_of_it():
    """Drawn over each other, a see-through gap has another colour than in the legend."""
    evaluation, predict = make(num_images=1)
    bins = [CalibrationBin(0.2, 0.4, 9, 0.3, 0.5), CalibrationBin(0.6, 0.8, 9, 0.7, 0.6)]
    page = Page(render(dataclasses.replace(evaluation, calibration=bins), predict))
    blue = page.all("rect", **{"class": "accuracy"})
    gaps = page.all("rect", **{"class": "gap careful"}) + page.all("rect", **{"class": "gap"})
    for accuracy, gap, (low, high) in zip(blue, gaps, [(0.3, 0.5), (0.6, 0.7)], strict=True):
        assert float(accuracy["height"]) == pytest.approx(350 * low)
        assert float(gap["height"]) == pytest.approx(350 * (high - low))
        assert float(gap["y"]) + float(gap["height"]) == pytest.approx(float(accuracy["y"]))


def test_feature_a_split_without_a_label_has_a_page_too():
    evaluation, predict = make(num_images=2)
    nothing = [None] * 6
    evaluation = dataclasses.replace(
        evaluation, metrics={"Mean_IoU": float("nan"), "Class_IoU": nothing}, intervals={},
        confusion=np.zeros((6, 6), np.int64), calibration=[], issues=[], skipped=[],
        images=[image._replace(mean_iou=None, pixel_accuracy=None, labelled=0)
                for image in evaluation.images],
    )  # fmt: skip
    page = Page(render(evaluation, predict))
    words = " ".join(page.texts)
    for sentence in ("no valid pixels", "None were found", "No image has a labelled pixel.",
                     "No confidence was measured.", "No pixel is wrong."):  # fmt: skip
        assert sentence in words
    assert page.text_in("data-metric", "Mean_IoU").startswith("Mean IoU –")

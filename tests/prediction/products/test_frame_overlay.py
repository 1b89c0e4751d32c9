"""The truth is `lay_over` of the whole frame, and colours that are looked for."""

import dataclasses

import numpy as np
import pytest

from prediction.products.frame_overlay import FrameOverlay, legend_of_all, with_legend
from prediction.products.kinds import Settings
from tests.prediction.products.case import make_case
from utils.drawing.overlay import lay_over, outline_thickness


@pytest.mark.parametrize("cuts", [(), (7, 20), range(1, 40)])
@pytest.mark.parametrize("outlines_only", [False, True])
def test_feature_an_overlay_is_that_of_the_whole_frame(cuts, outlines_only):
    case, kept = make_case(40, 1200), []
    settings = Settings(strength=0.7, outlines_only=outlines_only)
    product = FrameOverlay(case.facts, settings, kept.append)
    for rows in case.blocks(cuts):
        product.write(rows)
        for field in rows[1:]:
            field[:] = 0  # the caller may use its arrays again
    assert not kept
    product.finish()
    whole, opacity = case.whole, 0.0 if outlines_only else 0.7
    expected = lay_over(
        whole.image, whole.ids, case.facts.palette,
        clear=[0], opacity=opacity, thickness=outline_thickness(40, 1200),
    )  # fmt: skip
    assert np.array_equal(kept[0], expected)


def test_feature_the_legend_has_every_class():
    facts = make_case(300, 500).facts
    legend = legend_of_all(facts)
    assert legend.shape[1] <= 500
    colours = {tuple(colour) for colour in legend.reshape(-1, 3).tolist()}
    assert set(facts.palette[1:]) <= colours
    assert facts.palette[0] not in colours  # the background is not tinted
    unsure = legend_of_all(make_case(300, 500, ignored=True).facts)
    dark = [(each < 100).all(2).sum() for each in (legend, unsure)]
    assert dark[1] > dark[0]  # one more name


@pytest.mark.parametrize("size", [(20, 500), (300, 60)])
def test_feature_no_legend_larger_than_the_frame(size):
    assert legend_of_all(make_case(*size).facts) is None


def test_feature_no_legend_of_very_many_classes():
    facts = make_case(300, 500).facts
    classes = tuple(f"class {number}" for number in range(200))
    many = dataclasses.replace(facts, classes=classes, palette=((1, 2, 3),) * 200)
    assert legend_of_all(many) is None


@pytest.mark.parametrize("height", [99, 100])
def test_feature_a_sheet_has_an_even_height(height):
    frame = np.random.default_rng(0).integers(0, 255, (height, 60, 3), np.uint8)
    legend = np.full((20, 50, 3), 7, np.uint8)
    sheet = with_legend(frame, legend)
    assert sheet.shape == (120, 60, 3)
    assert np.array_equal(sheet[:height], frame)
    assert (sheet[height : height + 20, :50] == 7).all()
    assert (sheet[height:, 50:] == 255).all()
    assert (sheet[height + 20 :] == 255).all()
    assert with_legend(frame, None) is frame

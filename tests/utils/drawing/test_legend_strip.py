"""The legend below an image, and the bounds that are known before it is drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.drawing.legend import Entry, draw_legend
from utils.drawing.legend_strip import (
    MAX_LETTERS_WIDE,
    draw_legend_strip,
    legend_entries,
    max_strip_height,
    max_strip_width,
)

NAMES = st.text(st.sampled_from("abW i\u00e4\u65e5\n"), max_size=30)


@given(data=st.data(), classes=st.lists(NAMES, min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_feature_a_legend_of_some_classes_is_within_the_bounds(data, classes):
    """Whichever occur and how often: it is as wide as the image unless the bound is wider."""
    weights = st.sampled_from([0, 0, 1, 3, 1000, 10**6])
    counts = np.array([data.draw(weights) for _ in classes])
    size, width = data.draw(st.sampled_from([13, 15, 20, 31])), data.draw(st.integers(1, 1500))
    entries = legend_entries(counts, classes, [(9, 9, 9)] * len(classes))
    strip = draw_legend_strip(entries, width, size)
    bound = max_strip_width(tuple(classes), size)
    if bound <= width:  # of very wide images the legend takes a part
        assert strip.shape[1] == min(width, (MAX_LETTERS_WIDE + 2) * size)
    else:
        assert strip.shape[1] <= max(bound, width)
    assert len(strip) <= max_strip_height(len(classes), size)


@pytest.mark.parametrize("size", [10, 13, 15, 25])
def test_feature_a_legend_is_not_wider_than_its_names_need(size):
    """Also where the gap between columns is a whole number of pixels."""
    entries = [Entry(f"class {number}", (200, 0, 0), 0.1) for number in range(3)]
    for width in range(20 * size, 30 * size):
        assert draw_legend(entries, width, size).width == width


def test_feature_entries_by_their_frequency():
    counts = np.array([5, 0, 20, 5, 10])
    colours = [(i, i, i) for i in range(5)]
    entries = legend_entries(counts, "abcde", colours, clear=[3])
    assert [entry.name for entry in entries] == ["c", "e", "a", "d"]
    assert [entry.fraction for entry in entries] == [0.5, 0.25, 0.125, 0.125]
    assert [entry.tinted for entry in entries] == [True, True, True, False]
    assert entries[1].colour == (4, 4, 4) and entries[1].number == "4"
    assert legend_entries(np.zeros(5, int), "abcde", colours) == []

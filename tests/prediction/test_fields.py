import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy

from prediction.fields import LabelRule, complete_rows, copies_of, fields_of
from prediction.predictor.mosaic import Block
from utils.files.spill import Spill

FIELDS = ("confidence", "entropy", "probabilities")


def logits_of(classes, height, width, seed=0):
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.normal(0, 2, (classes, height, width)).astype(np.float32))


def test_feature_fields_are_scipys():
    logits = logits_of(5, 7, 9)
    expected = softmax(logits.numpy().astype(np.float64), axis=0)
    made = fields_of(logits.clone(), LabelRule(5), FIELDS)
    assert made["ids"].dtype == np.uint8
    np.testing.assert_array_equal(made["ids"], expected.argmax(0))
    np.testing.assert_allclose(made["confidence"], expected.max(0), rtol=1e-5)
    np.testing.assert_allclose(made["probabilities"], expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(made["entropy"], entropy(expected, base=5, axis=0), atol=1e-5)


def test_feature_certain_and_equal_logits():
    logits = torch.zeros(4, 1, 2)
    logits[2, 0, 1] = 1000
    made = fields_of(logits, LabelRule(4), FIELDS)
    assert made["ids"].tolist() == [[0, 2]]
    assert made["confidence"].tolist() == [[0.25, 1.0]]
    assert made["entropy"].tolist() == [[1.0, 0.0]]


def test_feature_only_what_is_needed():
    assert fields_of(logits_of(3, 2, 2), LabelRule(3), ()).keys() == {"ids"}
    assert fields_of(logits_of(3, 2, 2), LabelRule(3), ("entropy",)).keys() == {"ids", "entropy"}
    assert copies_of(()) < copies_of(("entropy",))


@pytest.mark.parametrize(
    ("classes", "ignore_index", "unsure", "dtype", "ignored"),
    [
        (3, 255, None, np.uint8, 255), (3, -1, None, np.uint8, 255), (3, 1, None, np.uint8, 255),
        (3, 7, None, np.uint8, 7), (255, 255, 0.5, np.uint8, 255),
        (256, 255, None, np.uint16, 65535),
        (256, 255, 0.5, np.uint16, 65535), (300, 255, None, np.uint16, 65535),
        (300, 400, None, np.uint16, 400),
    ],
)  # fmt: skip
def test_feature_the_ignored_id_is_no_class(classes, ignore_index, unsure, dtype, ignored):
    rule = LabelRule(classes, None, unsure, ignore_index)
    assert rule.dtype is dtype
    ids = np.zeros((2, 2), dtype)
    rule.ignore(ids, np.array([[True, False], [False, False]]))
    assert ids.tolist() == [[ignored, 0], [0, 0]]


@pytest.mark.parametrize("classes", [3, 300])
def test_feature_unsure_pixels_are_ignored(classes):
    logits = logits_of(classes, 20, 20)
    rule = LabelRule(classes, unsure=0.6)
    made = fields_of(logits.clone(), rule, ("confidence",))
    unsure = made["confidence"] < 0.6
    assert 0 < unsure.mean() <= 1
    assert (made["ids"][unsure] == rule.ignored_id).all()
    np.testing.assert_array_equal(made["ids"][~unsure], logits.argmax(0).numpy()[~unsure])


def test_feature_threshold():
    logits = torch.tensor([[[0.0, 0.0]], [[-1.0, 1.0]]])
    assert fields_of(logits.clone(), LabelRule(2, 0.2), ())["ids"].tolist() == [[1, 1]]
    made = fields_of(logits.clone(), LabelRule(2, 0.2), ("confidence",))
    sigmoid = 1 / (1 + np.exp([1.0, -1.0]))
    np.testing.assert_allclose(made["confidence"][0], sigmoid, rtol=1e-5)


@pytest.mark.parametrize("unsure", [-0.1, 1.1, float("nan")])
def test_exception_rule(unsure):
    with pytest.raises(ValueError, match="is not a probability"):
        LabelRule(3, unsure=unsure)


def test_exception_logits_that_are_not_finite():
    logits = logits_of(3, 4, 4)
    logits[1, 2, 2] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        fields_of(logits, LabelRule(3), ())


@given(
    rows=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    columns=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    chunk=st.sampled_from([1, 200, 10**9]),
    limit=st.sampled_from([0, 500, np.inf]),
)
@settings(deadline=None, max_examples=60)
def test_feature_rows_are_complete_and_in_order(rows, columns, chunk, limit):
    height, width = sum(rows), sum(columns)
    logits = logits_of(4, height, width)
    whole = fields_of(logits.clone(), LabelRule(4), FIELDS)

    def blocks():
        top = 0
        for h in rows:
            left = 0
            for w in columns:
                part = logits[:, top : top + h, left : left + w].clone()
                yield Block(top, left, part)
                left += w
            top += h

    with Spill(limit) as spill:
        made = list(complete_rows(blocks(), width, LabelRule(4), FIELDS, spill, chunk))
    assert [each.top for each in made] == np.cumsum([0, *(len(r.ids) for r in made[:-1])]).tolist()
    np.testing.assert_array_equal(np.concatenate([each.ids for each in made]), whole["ids"])
    for name in FIELDS:
        joined = np.concatenate([getattr(each, name) for each in made], axis=-2)
        np.testing.assert_allclose(joined, whole[name], rtol=1e-6, atol=1e-6)

"""Weights under another program's names."""

import pytest

from tests.models.test_models import CASES, build, class_of
from utils.checkpoint.name_map import NameMap

NAMES = NameMap([("a.", "b.0."), ("c.", "a.")], optional=("a.",))


def test_feature_name_map_example() -> None:
    weights = {"c.x": 1, "a.y.z": 2, "c.a.b": 3}
    expected = [("a.x", 1), ("b.0.y.z", 2), ("a.a.b", 3)]
    assert list((NAMES.ours(weights) or {}).items()) == expected


def test_feature_name_map_and_back() -> None:
    theirs = {"c.x": 1, "a.y.z": 2, "c.a.b": 3, "a.": 4}
    ours = NAMES.ours(theirs)
    assert ours is not None and list((NAMES.theirs(ours) or {}).items()) == list(theirs.items())


@pytest.mark.parametrize("weights", [{}, {"b.0.y": 1}, {"a.y": 1, "d.y": 2}, {"a": 1}])
def test_exception_not_theirs(weights: dict[str, int]) -> None:
    assert NAMES.ours(weights) is None


@pytest.mark.parametrize("pairs", [[("a.", "b."), ("a.b.", "c.")], [("a.", "b."), ("c.", "b.")]])
def test_exception_ambiguous(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(AssertionError):
        NameMap(pairs)


@pytest.mark.parametrize("case", [case for case in CASES if class_of(case).foreign_names])
def test_feature_every_map_covers_its_model(case: str) -> None:
    """What a model calls its weights can be said in the other program's names, and back."""
    ours = build(case).state_dict()
    for names in class_of(case).foreign_names.values():
        theirs = names.theirs(ours)
        assert theirs is not None and len(theirs) == len(ours)
        back = names.ours(theirs)
        assert back is not None and list(back) == list(ours)
        assert names.ours(ours) is None
        for prefix in names.optional:
            assert any(key.startswith(prefix) for key in ours)

"""The command line."""

import pytest

from prediction import options
from prediction.cluster.options import parse_arguments
from prediction.record import RESULT_OPTIONS

WORDS = ["-m", "m.pth", "-i", "in"]


def test_feature_what_both_programs_have_has_the_same_defaults():
    """So that the masks are the same, and the digests of a manifest."""
    ours, theirs = vars(parse_arguments(WORDS)), vars(options.parse_arguments(WORDS))
    assert set(RESULT_OPTIONS) <= ours.keys()
    assert theirs.keys() - ours.keys() == {"device", "every"}
    theirs["save"] = "ids"  # as inference.py has it for what is no video
    assert all(ours[name] == theirs[name] for name in theirs.keys() & ours.keys())


@pytest.mark.parametrize(
    "words", [["--actors", "0"], ["--gpus-per-actor", "one"], ["--shard", "1/2"], ["--device", "0"]]
)
def test_exception_wrong_words(words, capsys):
    with pytest.raises(SystemExit) as end:
        parse_arguments([*WORDS, *words])
    assert end.value.code == 2
    assert words[0] in capsys.readouterr().err

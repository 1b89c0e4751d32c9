"""Shards: every image in exactly one, everywhere the same."""

import os
import subprocess
import sys
import unicodedata
from hashlib import blake2b
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prediction.jobs.shards import Shard, in_shard, parse_shard, shard_of_path, shard_path
from tests.conftest import ROOT

# Names of files are any characters but NUL and surrogates that no byte gives.
names = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))) | st.builds(
    os.fsdecode, st.binary()
)


@given(names, st.integers(1, 300))
def test_feature_every_name_is_in_exactly_one_shard(name, total):
    assert sum(in_shard(name, Shard(number, total)) for number in range(1, total + 1)) == 1


@pytest.mark.parametrize("total", [2, 3, 64, 1000])
def test_feature_shards_are_about_equal(total):
    """Each count lies within five standard deviations of the binomial distribution's mean."""
    count = 200 * total if total < 1000 else 20_000
    found = [0] * total
    for n in range(count):
        text = f"part{n % 7}/image_{n:06}.jpg"
        found[int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") % total] += 1
    mean = count / total
    assert all(abs(one - mean) < 5 * (mean * (1 - 1 / total)) ** 0.5 + 1 for one in found)
    for number in (1, total):
        own = (in_shard(f"part{n % 7}/image_{n:06}.jpg", Shard(number, total))
               for n in range(count))  # fmt: skip
        assert sum(own) == found[number - 1]


def test_feature_the_same_everywhere():
    """Whatever Python's seed is, from a path of any system, in both forms of an umlaut."""
    texts = ["a.jpg", "sub/b.jpg", "ü/ö.png", "\udcff.jpg", "a,\n\"'.jpg"]
    own = [next(number for number in range(1, 9) if in_shard(text, Shard(number, 8)))
           for text in texts]  # fmt: skip
    code = (
        "from prediction.jobs.shards import Shard, in_shard\n"
        f"print([n for t in {texts!r} for n in range(1, 9) if in_shard(t, Shard(n, 8))])"
    )
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": "C"}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
        assert done.stdout.decode().strip() == str(own)
    for text, number in zip(texts, own, strict=True):
        for form in ("NFC", "NFD"):
            assert in_shard(unicodedata.normalize(form, text), Shard(number, 8))
        assert in_shard(Path(text), Shard(number, 8))
    assert in_shard(PureWindowsPath("sub\\b.jpg"), Shard(own[1], 8))


def test_feature_words():
    assert parse_shard("1/1") == (1, 1)
    assert parse_shard("3/64") == (3, 64)
    assert str(parse_shard("64/64")) == "64/64"


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "-1/4", "1/0", "a/b", "1/4/2", "1 / 4",
                                  "1.0/4", "١/٤", "SLURM", "1/9999999999"])  # fmt: skip
def test_exception_words(text):
    with pytest.raises(ValueError, match="1/64") as error:
        parse_shard(text, {"SLURM_ARRAY_TASK_ID": "1"})
    assert repr(text) in str(error.value)


def slurm(ids, task, step=1):
    """What SLURM says to one task of an array."""
    values = {"ID": task, "MIN": min(ids), "MAX": max(ids), "COUNT": len(ids), "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("ids", "step"),
    [(range(1, 65), 1), (range(64), 1), (range(5, 9), 1), (range(1, 11, 3), 3), ([0], 1), ([1], 1),
     (range(0, 100, 7), 7)],
)  # fmt: skip
def test_feature_tasks_of_an_array_are_all_shards(ids, step):
    found = [parse_shard("slurm", slurm(ids, task, step)) for task in ids]
    assert found == [(number, len(ids)) for number in range(1, len(ids) + 1)]


ARRAYS = {
    "gaps": (slurm([1, 2, 5], 2), "gaps"),
    "a list with a step": (slurm([1, 4, 7, 20], 20), "gaps"),
    "one task again": (slurm([7], 7), "7/64"),
    "between the steps": (slurm(range(1, 11, 3), 2, 3), "not in the array"),
    "no array": ({"SLURM_JOB_ID": "7"}, "no task of a SLURM job array"),
    "half": ({"SLURM_ARRAY_TASK_ID": "1"}, "no task of a SLURM job array"),
    "no number": ({**slurm([1, 2], 1), "SLURM_ARRAY_TASK_MAX": "x"}, "no task"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_exception_arrays_that_would_lose_images(case):
    environment, said = ARRAYS[case]
    with pytest.raises(ValueError, match=said):
        parse_shard("slurm", environment)


def test_feature_files_of_shards():
    paths = [shard_path(Path("out/results.csv"), Shard(number, 64)) for number in (3, 64)]
    assert [path.name for path in paths] == ["results-03-of-64.csv", "results-64-of-64.csv"]
    assert [shard_of_path(path) for path in paths] == [(3, 64), (64, 64)]
    assert shard_path(Path("a.parquet"), None) == Path("a.parquet")
    assert shard_of_path(Path("results-3.csv")) is None

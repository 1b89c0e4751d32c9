"""The words of docstrings, messages and docs: those of PyTorch and the field."""

import ast
import re

import pytest

from tests.conftest import ROOT
from tests.test_project import PROGRAM

# What a docstring of a function does not begin with: it says what the function does.
NO_VERB = re.compile(
    r"(an?|about|all|any|as|at|each|every|from|half|how|i[fnt]|its|no|nothing|o[fn]|one|only|that|the"
    r"|their|there|these|this|those|to|what|when|where|whether|which|whose?|with)[ ,:]",
    re.IGNORECASE,
)
# Words that a reader from PyTorch would have to translate, and what to say instead.
DEAD = {
    r"pixels? (that|which) counts?|do(es)? not count\b": "valid, ignored, have no effect",
    r"\bancestors?\b": "pytorch-segmentation",
    r"\bbelongs? into\b": "belongs in",
    r"cannot be had": "cannot be downloaded or read",
    r"\bstands? twice\b": "duplicate",
    r"cannot be told into|that are none\b": "cannot be divided, is invalid",
    r"\bsuffices?\b": "is enough",
    r"as argparse has it|and so it was|\bwhat of it\b": "a sentence with a subject and a verb",
    r"\bworked out\b": "computed, derived",
    r"\ball the same\b": "anyway",
    r"\brates? (stands?|moves?)\b|\brates? to rise\b": "the schedule is stepped",
    r"\b(MOST|FEWEST|LEAST)_": "MAX_, MIN_",
    r"\b(add_up|from_all|from_main|found_by_main|share_buffers|own_share|parts_of)\b": "all-reduce",
    r"\b(kept_here|standing_in|OnItsWay|join_processes|leave_processes)\b": "no_sync",
    r"\b(in_either_memory|unless_out_of_memory|no_room|let_main_speak)\b": "out of memory",
}  # fmt: skip
DOCS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
PAGES = [
    ROOT / "evaluation/templates",
    ROOT / "prediction/products/templates",
    ROOT / "serving/templates",
    ROOT / "utils/pages",
]
TEXTS = [*PROGRAM, *DOCS, *(path for folder in PAGES for path in folder.glob("*.[chj]*"))]


def is_property(function: ast.FunctionDef) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in function.decorator_list)


def test_feature_docstrings_of_functions_begin_with_a_verb():
    for path in PROGRAM:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and not is_property(node):
                text = ast.get_docstring(node) or "Return"
                assert text[0].isupper() and not NO_VERB.match(text), (path, node.lineno, text)


@pytest.mark.parametrize("words", DEAD)
def test_feature_no_private_dialect(words):
    for path in TEXTS:
        found = re.search(words, path.read_text())
        assert not found, f"{path}: {found[0]!r}; say {DEAD[words]}"

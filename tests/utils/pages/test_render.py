"""Pages of one file: what is escaped, and what may run."""

import base64
import hashlib
import re

import jinja2
import pytest

from tests.report_case import HOSTILE
from utils.pages.render import COMMON, render

TEMPLATE = """{% extends "base.html" %}
{% from "macros.html" import labelled %}
{% block title %}{{ name }}{% endblock %}
{% block body %}
<p>{{ labelled("#ffffff", name) }} {{ 0.5|percent }} {{ 2|double }}</p>
{% endblock %}
"""


@pytest.fixture
def template(tmp_path):
    (tmp_path / "page.html").write_text(TEMPLATE)
    (tmp_path / "own.css").write_text(".own { color: red; }")
    (tmp_path / "own.js").write_text("own();")
    return tmp_path / "page.html"


def page(template, name="x"):
    return render(
        template, {"name": name}, generator="some.py", styles=["base.css", "own.css"],
        scripts=["sorting.js", "own.js"], filters={"double": lambda value: 2 * value},
    )  # fmt: skip


def test_feature_styles_and_scripts_are_in_the_page_and_the_script_is_named(template):
    text = page(template)
    assert (COMMON / "base.css").read_text() + "\n.own { color: red; }" in text
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert script == (COMMON / "sorting.js").read_text() + "\nown();"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text and "default-src 'none'" in text
    assert '<meta name="generator" content="some.py">' in text
    assert "50.0\u00a0%" in text and " 4</p>" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_feature_names_are_text(template, name):
    text = page(template, name)
    assert "<img" not in text and text.count("<script>") == 1 == text.count("</script>")
    assert "\x1b" not in text and "\u202e" not in text
    text.encode()


def test_exception_what_a_template_lacks(template):
    with pytest.raises(jinja2.UndefinedError, match="name"):
        render(template, {}, generator="x", styles=[], scripts=[], filters={"double": str})

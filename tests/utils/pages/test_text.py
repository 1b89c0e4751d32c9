"""Numbers and names of pages."""

import math

from utils.pages import text


class Markup(str):
    """What a template has made, by jinja2's rule."""

    def __html__(self):
        return self


def test_feature_a_name_breaks_at_its_joints_alone():
    assert text.parts("sign_symbol") == ["sign_", "symbol"]
    assert text.parts("a-b/c.png") == ["a-", "b/", "c.", "png"]
    assert text.parts("pavement") == ["pavement"] and text.parts("_") == ["_"]


def test_feature_fractions_as_text():
    shown = [text.percent(value) for value in (0.1234, 0.0, 0.0004, 1.0, None, math.nan)]
    assert [words.replace("\u00a0", " ") for words in shown] == [
        "12.3 %", "0.0 %", "<0.1 %", "100.0 %", "–", "–",
    ]  # fmt: skip


def test_feature_values_for_scripts():
    assert [text.sortable(v) for v in (0.25, 1e9, None, math.inf)] == ["0.25", "1e+09", "", ""]
    assert text.number(1234567) == "1,234,567" and text.hexadecimal((230, 40, 5)) == "#e62805"


def test_feature_text_is_cleaned_and_markup_is_not():
    assert text.clean("a\x00b\u202ec") == "a\ufffdb\ufffdc"
    markup = Markup("a\n")
    assert text.clean(5) == 5 and text.clean(markup) is markup

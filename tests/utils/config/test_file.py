"""utils/config/file.py: config files as plain data, overrides, suggestions."""

import json

import pytest

from utils.config.errors import ConfigError, suggest
from utils.config.file import apply_overrides, parse_config


def parse_text(tmp_path, text, name="c.json"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return parse_config(path)


def test_feature_comments_and_trailing_commas(tmp_path):
    text = '{"a": 1, // one\n /* two */ "b": ["x // no comment", 1e-4,],}'
    assert parse_text(tmp_path, text) == {"a": 1, "b": ["x // no comment", 1e-4]}


def test_feature_yaml_is_the_same_tree(tmp_path):
    yaml = "a: 1\nlr: 1e-4\non: yes\nlist: [1, 2.5, null, true]\nnested: {b: 'x'}\n"
    expected = {"a": 1, "lr": 1e-4, "on": "yes", "list": [1, 2.5, None, True], "nested": {"b": "x"}}
    assert parse_text(tmp_path, yaml, "c.yaml") == expected
    assert parse_text(tmp_path, json.dumps(expected), "c.json") == expected


def test_feature_byte_order_mark_is_passed_over(tmp_path):
    assert parse_text(tmp_path, b"\xef\xbb\xbf{}") == {}


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ('{"a": 1\n "b": 2}', "c.json", "line 2"),
        ('{"a": {"b": 1, "b": 2}}', "c.json", "a.b: duplicate key"),
        ('{"a": [1, NaN]}', "c.json", "a.1: nan is not a usable number"),
        ('{"a": -Infinity}', "c.json", "a: -inf is not a usable number"),
        ('{"a": 1e999}', "c.json", "not a usable number"),
        (r'{"a": "b\u0000c"}', "c.json", "a: 'b\\x00c'"),
        ("", "c.json", "is empty"),
        ("[1]", "c.json", "at the top, not [1]"),
        ("[" * 20000, "c.json", "nested too deeply"),
        ('{"a":' * 3000 + "1" + "}" * 3000, "c.json", "nested too deeply"),
        (b"\xff\xfe\x00", "c.json", "not UTF-8"),
        (b"\x00" * 70000, "c.json", "at most"),
        ("a: 1\na: 2\n", "c.yaml", "found duplicate key"),
        ("a: &x [1]\nb: *x\n", "c.yaml", "aliases"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n", "c.yaml", "aliases"),
        ("a: &a [*a]\n", "c.yaml", "aliases"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n", "c.yaml", "aliases"),
        ("a: [1\nb: 2", "c.yaml", "line 2"),
        ("a: .nan", "c.yaml", "a: nan is not a usable number"),
        ("a: 2020-01-01", "c.yaml", "expected plain data, not date"),
        ("a: !!python/object/apply:os.system ['true']", "c.yaml", "line 1"),
        ("[" * 20000, "c.yaml", "nested too deeply"),
        ("- " * 20000, "c.yaml", "nested too deeply"),
    ],
)
def test_exception_unreadable_files(tmp_path, text, name, words):
    with pytest.raises(ConfigError, match="c\\.") as caught:
        parse_text(tmp_path, text, name)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 400


def test_exception_missing_file_suggests_a_neighbour(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"no such file; did you mean 'config\.json'"):
        parse_config(tmp_path / "confg.json")
    with pytest.raises(ConfigError, match="is a folder"):
        parse_config(tmp_path)


def test_feature_overrides():
    tree = {"a": {"b": 1}, "list": [{"w": 1}, {"w": 2}]}
    result = apply_overrides(tree, ["a.b=2e-3", "a.c=word", "list.1.w=null", "new.x=[1, 2]"])
    expected = {"a": {"b": 2e-3, "c": "word"}, "list": [{"w": 1}, {"w": None}]}
    assert result == {**expected, "new": {"x": [1, 2]}}
    assert tree == {"a": {"b": 1}, "list": [{"w": 1}, {"w": 2}]}


@pytest.mark.parametrize("override", ["a", "=1", "a..b=1", "a.b.c=1", "list.7=1", "list.x.w=1"])
def test_exception_overrides(override):
    with pytest.raises(ConfigError):
        apply_overrides({"a": {"b": 1}, "list": [1]}, [override])


def test_feature_suggestions():
    assert suggest("pspnet", ["PSPNet", "UNet"]) == "; did you mean 'PSPNet'?"
    assert suggest("zzz", ["a"]) == ""
    assert suggest("zzz", ["a", "b"], listing=True) == "; choose from a, b"

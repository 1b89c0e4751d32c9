"""Any text is a config or a message: never another exception, never code, never a minute."""

import collections
import copy
import io
import json
import random
import re
import sys
import time

import pytest
import ruamel.yaml

import train
from builders.sections import SECTIONS
from tests.conftest import ROOT
from tests.utils.config.test_check_config import minimal
from trainer import TRAINING_METRICS, VALIDATION_METRICS
from utils.checkpoint.last import find_latest
from utils.config.build import build
from utils.config.check import check_config
from utils.config.errors import ConfigError
from utils.config.file import MAX_BYTES, apply_overrides, include_pipelines, parse_config
from utils.config.sections import Component

SECONDS = 2.0  # of the processor, for any text
# Short, so that mutations are many to a key and parsing is quick.
JSON = b"// a comment\n" + json.dumps(minimal(), indent=1).encode()
TOKENS = [
    b"{", b"}", b"[", b"]", b":", b",", b'"', b"'", b"null", b"NaN", b"Infinity", b"-Infinity",
    b"-", b"+1", b"1e999", b"-1e999", b"1e308", b"9" * 400, b"0x" + b"f" * 300, b"0o7", b"1_000",
    b"12345678901234567890123", b"-1", b"0.0", b"true", b"1:30", b"2001-99-99", b".inf", b".nan",
    b"\\ud800", b"\\u0000", b"\\x", b"\\", b"//", b"/*", b"*/", b"#", b"\n", b"\r", b"\t", b"\0",
    b"&a", b"*a", b"<<:", b"---", b"...", b"%YAML 1.1", b"|", b">", b"?", b"@", b"`", b"!", b"!<x>",
    b"!!python/object/apply:os.system", b"!!python/name:os.system", b"!!binary", b"!!set",
    b"!!timestamp", b"!!float", b"!!omap", b"\xef\xbb\xbf", b"\xff", b"\xed\xa0\x80",
    b"\xe2\x80\xa8", b"__class__", b"__proto__", b"../..", b"type", b"args",
]  # fmt: skip
NESTED = (b"[", b"{a: ", b'{"a":', b"- ", b"a:\n ")
# Of every kind, for a place in a good config.
VALUES: list = [
    None, True, False, 0, 1, -1, 2, 255, 2**31, 2**63, 2**64, -(2**63), 10**18, 0.5, -0.5, 1e308,
    5e-324, "", " ", "a", "auto", "\0", "..", "/", "nn.Module", "os", "__init__", "\ud800", "é",
    "x" * 5000, [], [[]], {}, [1], ["a", 1], {"type": "os"}, {"type": "UNet", "args": 5},
    {"a": {"b": []}}, [None], [0.1, 0.2, 0.3], ["a", "a"], {"": ""}, {"1": 1},
]  # fmt: skip


def yaml_of(tree):
    stream = io.StringIO()
    ruamel.yaml.YAML().dump(tree, stream)
    return stream.getvalue().encode()


def mutated(rng: random.Random, good: bytes) -> bytes:
    """A text with some bytes flipped, cut, doubled, or with something odd in it."""
    data = bytearray(good)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        place = rng.randrange(len(data) + 1)
        kind = rng.randrange(8)
        if kind == 0 and data:
            data[min(place, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place:place] = rng.choice(TOKENS)
        elif kind == 2:
            del data[place : place + rng.randrange(1, 40)]
        elif kind == 3:
            start = rng.randrange(len(data) + 1)
            data[place:place] = data[start : start + rng.randrange(1, 200)]
        elif kind == 4:
            words = list(re.finditer(rb"[\w.+-]+", data))
            if words:
                word = rng.choice(words)
                data[word.start() : word.end()] = rng.choice(TOKENS)
        elif kind == 5 and rng.random() < 0.3:
            del data[place:]
        elif kind == 6:
            data[place:place] = rng.choice(NESTED) * rng.choice((3, 60, 3000))
        elif kind == 7 and rng.random() < 0.1:
            data[:] = rng.randbytes(rng.randrange(300))
    return bytes(data)


def places(tree, path=()):
    """The path of every value of a tree."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def changed(rng: random.Random, good: dict) -> dict:
    """A tree with some values, or keys, replaced by others."""
    tree = copy.deepcopy(good)
    for _ in range(rng.choice((1, 1, 2, 4))):
        *parents, last = rng.choice(list(places(tree)))
        node = tree
        for key in parents:
            node = node[key]
        value = copy.deepcopy(rng.choice(VALUES))
        if isinstance(node, dict) and rng.random() < 0.15:
            node[rng.choice(["x", "__class__", "type", "args", "p\n", "\ud800"])] = node.pop(last)
        elif rng.random() < 0.1:
            del node[last]
        else:
            node[last] = value
        if not any(True for _ in places(tree)):
            return tree
    return tree


def check(tree, overrides=()):
    return check_config(tree, SECTIONS, "c", VALIDATION_METRICS, TRAINING_METRICS, overrides)


def outcome(run, what):
    """`valid` or `ConfigError`; anything else fails the test, and so does a long time."""
    started = time.process_time()
    try:
        run()
        result = "valid"
    except ConfigError as error:
        assert str(error)
        str(error).encode("utf-8", "backslashreplace")
        result = "ConfigError"
    except BaseException as error:
        raise AssertionError(what) from error
    assert time.process_time() - started < SECONDS, what
    return result


def fuzz_files(tmp_path, number, seed):
    """Mutations of a JSON and of a YAML file, all the way to a checked config."""
    rng = random.Random(seed)
    good = {"json": JSON, "yaml": yaml_of(minimal())}
    counts: collections.Counter = collections.Counter()
    for index in range(number):
        kind = ("json", "yaml")[index % 2]
        path = tmp_path / f"c.{kind}"
        path.write_bytes(mutated(rng, good[kind]))
        counts[outcome(lambda path=path: check(parse_config(path)), (seed, index, kind))] += 1
    return counts


def fuzz_values(number, seed):
    """Good configs with odd values in them, as -o sets them too."""
    rng = random.Random(seed)
    good = [parse_config(ROOT / "config.json"), minimal()]
    good += [parse_config(path) for path in sorted((ROOT / "configs").glob("*.json"))[:6]]
    counts: collections.Counter = collections.Counter()
    for index in range(number):
        tree = changed(rng, rng.choice(good))
        counts[outcome(lambda tree=tree: check(tree), (seed, index))] += 1
    return counts


def test_exception_mutated_files(tmp_path):
    loaded = set(sys.modules)
    counts = fuzz_files(tmp_path, 300, seed=0)
    assert counts.total() == 300
    assert counts["ConfigError"] > 150 and counts["valid"] > 3, counts
    assert not {"antigravity", "this", "poplib"} & (set(sys.modules) - loaded)


@pytest.mark.slow
def test_exception_odd_values():
    counts = fuzz_values(1500, seed=0)
    assert counts["ConfigError"] > 750 and counts["valid"] > 20, counts


@pytest.mark.faults
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_exception_many_mutated_files(tmp_path, seed):
    """With the quick ones: 10,300 texts, and 21,500 trees."""
    assert fuzz_files(tmp_path, 2500, seed).total() == 2500
    assert fuzz_values(5000, seed).total() == 5000


def repeated(unit: str, wrap: str = "{}") -> str:
    room = MAX_BYTES - len(wrap) - 4
    return wrap.replace("{}", unit * (room // len(unit.encode())))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", repeated("[")), ("c.json", repeated('{"a":')),
        ("c.json", repeated("1,", "[{}1]")),
        ("c.json", repeated("9", '{"a":{}}').replace('{"a":{}', '{"a":1')),
        ("c.json", repeated("f", '{"a":0x{}}')), ("c.json", repeated("a:1,", "{{}}")),
        ("c.json", repeated("\\u0041", '{"a":"{}"}')), ("c.json", repeated("*", "/*{}*/")),
        ("c.json", repeated("//\n")), ("c.json", repeated("-")), ("c.yaml", repeated("[")),
        ("c.yaml", repeated("- ")), ("c.yaml", repeated("? ")), ("c.yaml", repeated("- 1\n")),
        ("c.yaml", repeated("1,", "[{}1]")), ("c.yaml", repeated("a,", "{{}a}")),
        ("c.yaml", repeated("a: 1\n")), ("c.yaml", repeated("<<: {a: 1}\n")),
        ("c.yaml", repeated("x\n ", "a: {}")), ("c.yaml", repeated("\\x41", 'a: "{}"')),
        ("c.yaml", repeated("!a ")), ("c.yaml", repeated("---\n")),
        ("c.yaml", repeated("1:", "a: {}1")), ("c.yaml", repeated("9", "a: {}")),
        ("c.yaml", repeated("&a ")),
    ],
)  # fmt: skip
def test_exception_what_would_take_long(tmp_path, name, text):
    """Files of the greatest length that keep a reader busy."""
    path = tmp_path / name
    path.write_text(text)
    assert path.stat().st_size <= MAX_BYTES
    assert outcome(lambda: check(parse_config(path)), text[:20]) == "ConfigError"


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch hacked']",
        "!!python/object/new:os.system ['touch hacked']",
        "!!python/object:os.system {}",
        "!!python/name:os.system",
        "!!python/module:poplib",
        "!!python/tuple [1]",
        "!!python/object/apply:builtins.eval [\"open('hacked', 'w')\"]",
        "!<tag:yaml.org,2002:python/object/apply:os.mkdir> [hacked]",
        "!os.system 'touch hacked'",
        "!!map:os.system {}",
        "!!int",  # of nothing, at which the reader itself fails
        "!!float ''",
        "!!bool",
    ],
)
def test_exception_yaml_tags_build_nothing(tmp_path, monkeypatch, tag):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c.yaml"
    loaded = set(sys.modules)
    lead = "%TAG ! tag:yaml.org,2002:\n--- "
    for text in (f"a: {tag}\n", f"{tag}\n", f"? {tag}\n: 1\n", lead + tag):
        path.write_text(text)
        with pytest.raises(ConfigError):
            check(parse_config(path))
    assert not (tmp_path / "hacked").exists()
    assert "poplib" not in set(sys.modules) - loaded


# --- which names can be built


NAMES = [
    "nn", "os", "sys", "BaseModel", "BaseDataset", "BaseDataSet", "Module", "torch", "models",
    "__init__", "__all__", "__class__", "__builtins__", "_Report", "os.system", "models.UNet",
    "torch.nn.Linear", "builtins.eval", "eval", "UNet.__init__", "../UNet", "UNet\0", "unet", "",
    " UNet", "Optimizer", "LRScheduler", "lr_scheduler", "BaseLoss", "pretrained", "read_weights",
    "load_pretrained", "downloaded", "poplib", "VOC_download", "voc_download",
]  # fmt: skip
KEYS = ("arch", "train_loader", "val_loader", "optimizer", "loss", "lr_scheduler")


@pytest.mark.parametrize("name", NAMES)
def test_exception_only_listed_names_are_found(name):
    for section in KEYS:
        tree = minimal()
        args = {"args": copy.deepcopy(tree["train_loader"]["args"])} if "loader" in section else {}
        tree[section] = {"type": name, **args}
        loaded = set(sys.modules)
        with pytest.raises(ConfigError, match=rf"{section}\.type: ") as caught:
            check(tree)
        assert set(sys.modules) == loaded
        assert re.escape(repr(name)) or caught
        part = SECTIONS[section]
        with pytest.raises(ConfigError, match="there is no"):
            build(part.namespace, Component(name, {}), part.base, section)
        assert set(sys.modules) == loaded


def test_feature_every_name_that_can_be_built_is_listed():
    """What a section can name is a class in `__all__`, of the kind that the section takes."""
    for part in SECTIONS.values():
        listed = {*part.namespace.__all__, *(part.library.__all__ if part.library else ())}
        for name in part.names():
            assert name in listed and name.isidentifier() and not name.startswith("_")
            assert issubclass(part.find(name), part.base) and part.find(name) is not part.base


@pytest.mark.parametrize("key", ["__class__", "__init__", "self", "cls", "forward", "state_dict"])
def test_exception_arguments_that_no_signature_has(key):
    for section in KEYS:
        tree = minimal()
        tree.setdefault(section, {"type": "Poly"})
        if isinstance(tree[section], str):
            tree[section] = {"type": tree[section]}
        tree[section] = {**tree[section], "args": {**tree[section].get("args", {}), key: 1}}
        with pytest.raises(ConfigError, match=re.escape(f"{section}.args.{key}: ")):
            check(tree)


# --- where a run's folder may be


ESCAPES = [
    "../../x", "..", ".", "/tmp/x", "a/b", "a\\b", "C:x", "a\0b", "a\nb", "", "  ", "a*", "?",
]  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_exception_names_that_leave_save_dir(tmp_path, monkeypatch, name):
    work = tmp_path / "deep" / "work"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    tree = {**minimal(), "name": name}
    with pytest.raises(ConfigError, match="name: "):
        check(tree)
    # Nor is a run looked for there, before the config is checked.
    for place in (tmp_path, tmp_path / "x", work / "saved" / "a" / "b", work / "saved"):
        (place / "2020").mkdir(parents=True, exist_ok=True)
        (place / "2020" / "last.pth").write_bytes(b"")
    assert find_latest({**tree, "trainer": {"save_dir": "saved"}}) is None
    before = sorted(tmp_path.rglob("*"))
    (work / "c.json").write_text(json.dumps(tree))
    assert train.main(["-c", "c.json", "--device", "cpu"]) == 2
    assert sorted(tmp_path.rglob("*")) == sorted([*before, work / "c.json"])


# --- what the command line adds


@pytest.mark.parametrize(
    "override",
    [
        "a=" + "[" * 5000, "a=" + '{"b":' * 5000, "a=0x" + "f" * 300,
        "trainer.epochs=0x" + "f" * 5000, "a=NaN", "a=\ud800",
        "__class__.__init__=1", ".=1", "=1", "a..b=1", "trainer.epochs.x=1", "loss.99=1",
        "arch.__class__=1", "a=" + "9" * 5000,
    ],
)  # fmt: skip
def test_exception_odd_overrides(override):
    def run():
        check(apply_overrides(minimal(), [override]), [override])

    assert outcome(run, override[:20]) == "ConfigError"


def test_exception_a_pipeline_file_is_read_like_a_config(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text("transform: !!python/object/apply:os.system ['touch hacked']\n")
    tree = minimal()
    tree["train_loader"]["args"]["albumentations"] = str(path)
    with pytest.raises(ConfigError, match=re.escape(str(path))):
        include_pipelines(tree)

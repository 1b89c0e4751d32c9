"""No line of the program runs what a file says."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

# The only module that opens files of torch.
READER = "utils/checkpoint/weights_file.py"
# What makes payloads, to see them refused.
HOSTILE = {
    "tests/exporting/test_torch_file.py",
    "tests/hostile_files.py",
    "tests/security/test_checkpoints.py",
    "tests/security/test_outputs.py",
}

CALLS = {
    "eval", "exec", "compile", "__import__",
    "pickle.load", "pickle.loads", "pickle.Unpickler", "_pickle.loads", "cPickle.loads",
    "marshal.load", "marshal.loads", "shelve.open", "dill.load", "dill.loads", "joblib.load",
    "cloudpickle.load", "cloudpickle.loads", "pandas.read_pickle",
    "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "yaml.unsafe_load_all",
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
    "torch.jit.load", "torch.package.PackageImporter", "torch.hub.load",
    "torch.hub.load_state_dict_from_url", "torch.serialization.add_safe_globals",
    "tempfile.mktemp", "importlib.import_module", "runpy.run_path", "runpy.run_module",
    "dist.broadcast_object_list", "dist.all_gather_object", "dist.gather_object",
    "dist.scatter_object_list", "dist.send_object_list", "dist.recv_object_list",
}  # fmt: skip
# Whatever stands in front of the dot.
METHODS = {
    "broadcast_object_list", "all_gather_object", "gather_object", "scatter_object_list",
    "send_object_list", "recv_object_list", "load_state_dict_from_url", "add_safe_globals",
    "extractall",
}  # fmt: skip
MODULES = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
RUNNER = ("tests/processes.py", "runpy.run_path")  # runs our programs
FLAGS = {"shell", "allow_pickle", "trust_remote_code"}  # never true


def aliases(tree: ast.AST) -> dict[str, str]:
    """Local name -> what it was imported as."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def dotted(node: ast.AST, names: dict[str, str]) -> str:
    """`torch.load`, also of `from torch import load as read; read`."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        return ".".join([names.get(node.id, node.id), *reversed(parts)])
    return ".".join(["?", *reversed(parts)])


def is_true(node: ast.AST) -> bool:
    """Whether a value is, or might be, true."""
    return not (isinstance(node, ast.Constant) and not node.value)


def findings(source: str, path: str = "x.py") -> list[str]:
    """Every place of a file that could run what it reads."""
    tree = ast.parse(source)
    names = aliases(tree)
    found = []

    def add(node: ast.AST, what: str) -> None:
        found.append(f"{path}:{node.lineno}: {what}")  # type: ignore[attr-defined]

    for node in ast.walk(tree):
        if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
            # Also where it is only handed on: `map(eval, texts)`.
            name = dotted(node, names)
            short = name.removeprefix("builtins.").replace("torch.distributed.", "dist.")
            if (path, name) == RUNNER:
                continue
            is_call = short in CALLS or name.rpartition(".")[2] in METHODS
            if is_call and not name.startswith("re.compile"):
                add(node, name)
            harmless = {"UnpicklingError", "PickleError", *MODULES}
            if name.partition(".")[0] in MODULES and name.rpartition(".")[2] not in harmless:
                add(node, name)
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            add(node, f"from {node.module}")
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func, names)
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        for flag in FLAGS & keywords.keys():
            if is_true(keywords[flag]):
                add(node, f"{flag}=True")
        weights_only = keywords.get("weights_only")
        if weights_only and getattr(weights_only, "value", None) is not True:
            add(node, "weights_only is not True")
        ours = not path.startswith("tests/")
        if name in ("torch.load", "torch.serialization.load"):
            if "weights_only" not in keywords:
                add(node, "torch.load without weights_only=True")
            if ours and path != READER:
                add(node, f"torch.load outside {READER}")
        if ours and name in ("numpy.load", "np.load") and "allow_pickle" not in keywords:
            add(node, "numpy.load without allow_pickle=False")
        if name.endswith("yaml.load") and "Safe" not in ast.dump(node):
            add(node, "yaml.load without SafeLoader")
        if ours and name.endswith("YAML") and "'safe'" not in ast.unparse(node):
            add(node, "YAML() that is not safe")
    return found


def tracked() -> list[Path]:
    command = ["git", "ls-files", "*.py"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:  # an unpacked archive
        return sorted(ROOT.rglob("*.py"))
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).exists()]


@pytest.mark.slow
def test_feature_no_file_runs_what_it_reads():
    files = tracked()
    assert len(files) > 250
    found = []
    for path in files:
        relative = path.relative_to(ROOT).as_posix()
        if relative not in HOSTILE:
            found += findings(path.read_text(encoding="utf-8"), relative)
    # ruamel's reader is the safe one by its constructor.
    assert [line for line in found if not ALLOWED.search(line)] == []


# `ruamel.yaml.YAML(typ="safe").load` has no loader to name; tests look into what they import.
ALLOWED = re.compile(
    r"^utils/config/file\.py:\d+: yaml\.load without"
    r"|^tests/(test_project|same_numbers|utils/metrics/test_confusion)\.py:\d+: importlib\.\w+$"
    # There and back within a test, as between processes.
    r"|^tests/[\w/]+/test_(albumentations|cocovoc21|jpeg_end|pickled_\w+)\.py:\d+: pickle\.\w+$"
)


@pytest.mark.parametrize(
    "code",
    [
        "eval('1')", "exec(text)", "list(map(eval, texts))", "import builtins\nbuiltins.eval(text)",
        "compile(text, 'x', 'exec')", "__import__(name)",
        "import importlib\nimportlib.import_module(name)", "import pickle\npickle.load(file)",
        "import pickle\npickle.loads(data)", "import pickle as p\np.loads(data)",
        "from pickle import loads\nloads(data)", "from pickle import load as read\nread(file)",
        "import pickle\npickle.Unpickler(file).load()", "import pickle\nread = pickle.load",
        "import marshal\nmarshal.loads(data)", "import shelve\nshelve.open(path)",
        "import dill\ndill.load(file)", "import joblib\njoblib.load(path)",
        "import yaml\nyaml.load(text)", "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "import yaml\nyaml.unsafe_load(text)", "import ruamel.yaml\nruamel.yaml.YAML()",
        "import ruamel.yaml\nruamel.yaml.YAML(typ='unsafe')", "import os\nos.system(command)",
        "from os import system\nsystem(command)", "import os\nos.popen(command)",
        "import subprocess\nsubprocess.run(command, shell=True)",
        "import subprocess\nsubprocess.Popen(command, shell=flag)",
        "import torch\ntorch.load(path)", "import torch\ntorch.load(path, weights_only=False)",
        "import torch\ntorch.load(path, weights_only=flag)",
        "import torch\ntorch.load(path, weights_only=True)",  # in another file than the reader
        "from torch import load\nload(path)", "import torch as t\nt.load(path, map_location='cpu')",
        "import torch\ntorch.jit.load(path)", "import torch\ntorch.hub.load('a/b', 'c')",
        "from torch.hub import load_state_dict_from_url\nload_state_dict_from_url(url)",
        "import torch\ntorch.serialization.add_safe_globals([x])",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy as np\nnp.load(path, allow_pickle=flag)", "import numpy as np\nnp.load(path)",
        "import torch.distributed as dist\ndist.broadcast_object_list(objects)",
        "import torch.distributed as dist\ndist.all_gather_object(objects, x)",
        "import torch\ntorch.distributed.gather_object(x)",
        "from torch.distributed import scatter_object_list\nscatter_object_list(a, b)",
        "import torch.distributed as d\nd.send_object_list(a, 0)",
        "import torch.distributed as d\nd.recv_object_list(a, 0)",
        "import tempfile\ntempfile.mktemp()", "import tarfile\ntarfile.open(path).extractall()",
    ],
)  # fmt: skip
def test_feature_the_search_finds(code):
    assert findings(code)


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        "import re\nre.compile('x')",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "import subprocess\nsubprocess.run(words)",
        "import torch.distributed as dist\ndist.broadcast(tensor, 0)",
        "import pickle\ntry:\n    pass\nexcept pickle.UnpicklingError:\n    pass",
        "import ruamel.yaml\nruamel.yaml.YAML(typ='safe', pure=True)",
        "schedule.load_state_dict(state)",
    ],
)
def test_feature_the_search_passes(code):
    assert findings(code) == []


def test_feature_the_reader_is_safe_and_alone():
    """One call of `torch.load`, and it says `weights_only=True` as a word, not as a variable."""
    text = (ROOT / READER).read_text()
    assert findings(text, READER) == []
    assert text.count("torch.load(") == 1
    assert findings(text.replace("weights_only=True", "weights_only=False"), READER)
    assert findings(text.replace(", weights_only=True", ""), READER)

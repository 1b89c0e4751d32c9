"""The repository as a whole: imports, requirements, README, names."""

import ast
import importlib
import inspect
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from builders.optimization import build_losses
from builders.sections import SECTIONS
from docs.draw_architecture import LAYERS, WITHIN_A_LAYER, read_imports
from tests.conftest import ROOT, run_code
from tests.utils.config.test_check_config import check, minimal
from utils import losses
from utils.config.file import parse_config

# Import name -> what pip calls it, where they differ.
PACKAGES = {"cv2": "opencv-python-headless", "PIL": "pillow", "ruamel": "ruamel.yaml",
            "sklearn": "scikit-learn", "mlflow": "mlflow-skinny",
            "segmentation_models_pytorch": "segmentation-models-pytorch"}  # fmt: skip
# What a feature asks for with the pip command when it is used.
OPTIONAL = {"albumentations", "pycocotools", "scipy", "rasterio", "pyarrow", "shapely", "av",
            "fsspec", "ray", "onnx", "onnxruntime", "openvino", "nncf", "ai_edge_litert",
            "ai_edge_quantizer", "fastapi", "starlette", "uvicorn", "prometheus_client", "h11",
            "httpx", "wandb", "mlflow", "sqlalchemy"}  # fmt: skip
FOLDERS = [*sorted({path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}), "docs"]
PROGRAM = sorted([*ROOT.glob("*.py"), *(p for f in FOLDERS for p in (ROOT / f).rglob("*.py"))])


def imports(path: Path) -> set[str]:
    """Top-level names that a file imports anywhere, those for type checkers left out."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def local_modules() -> set[str]:
    return {*FOLDERS, "tests"} | {p.stem for p in ROOT.glob("*.py")}


def test_feature_every_import_is_in_the_requirements():
    required = re.findall(r"^([\w.-]+)>=", (ROOT / "requirements.txt").read_text(), re.M)
    dev = re.findall(r"^([\w.-]+)", (ROOT / "requirements-dev.txt").read_text(), re.M)
    for path in PROGRAM:
        foreign = imports(path) - local_modules() - set(sys.stdlib_module_names) - OPTIONAL
        names = {PACKAGES.get(name, name) for name in foreign} - {"typing_extensions"}
        assert names <= set(required), (path, names - set(required))
    for path in (ROOT / "tests").rglob("*.py"):
        foreign = imports(path) - local_modules() - set(sys.stdlib_module_names)
        names = {PACKAGES.get(name, name) for name in foreign}
        assert names <= {*required, *dev}, (path, names)


def test_feature_every_requirement_is_pinned_and_explained():
    constraints = (ROOT / "constraints.txt").read_text()
    reasons = (ROOT / "docs/design/0009-dependencies.md").read_text()
    for path in ROOT.glob("requirements*.txt"):
        for name in re.findall(r"^([\w.-]+)(?:[>=]=|$)", path.read_text(), re.M):
            assert re.search(rf"^{re.escape(name)}==", constraints, re.M), name
            assert name.removeprefix("types-") in reasons, name


def test_feature_imports_go_one_way():
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    folders = set(FOLDERS) - {"benchmarks", "docs"}
    assert level.keys() == folders | {path.stem for path in ROOT.glob("*.py")}
    for (importer, imported), path in read_imports().items():
        pair = importer.split("/")[0], imported.split("/")[0]
        if pair[0] != pair[1] and pair not in WITHIN_A_LAYER:
            assert level[pair[0]] < level[pair[1]], (path, imported)


def test_feature_the_readme_shows_every_room():
    text = (ROOT / "README.md").read_text()
    assert max(map(len, text.splitlines())) < 120
    tree = text.split("## Where things are")[1].split("```")[1]
    names = re.findall(r"^ {0,2}([\w/.-]+)(?:  +\S|$)", tree, re.M)
    shown = {f"{folder}/" for folder in FOLDERS} | {path.name for path in ROOT.glob("*.py")}
    for path in (ROOT / "utils").iterdir():
        if path.suffix == ".py" and path.name != "__init__.py":
            shown.add(path.name)
        elif (path / "__init__.py").is_file():
            shown.add(f"{path.name}/")
    assert shown <= set(names), shown - set(names)
    for name in names:
        assert list(ROOT.rglob(name.rstrip("/"))), name
    assert len(tree.splitlines()) <= 60


def anchors(file: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a Markdown file."""
    text = re.sub(r"^ *```.*?^ *```", "", file.read_text(), flags=re.S | re.M)
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+)", text, re.M):
        shown = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading)
        slug = re.sub(r"[^\w -]", "", shown.strip().lower()).replace(" ", "-")
        repeats = (f"{slug}-{number}" for number in itertools.count(1))
        found.add(slug if slug not in found else next(s for s in repeats if s not in found))
    return found


def test_feature_links_lead_somewhere():
    count = 0
    for file in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for path, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", file.read_text()):
            if not path.startswith("http"):
                target = file.parent / path if path else file
                assert target.exists(), (file, path)
                assert not anchor or anchor in anchors(target), (file, path, anchor)
                count += bool(anchor)
    assert count > 10


def defined_names(path: Path) -> set[str]:
    """What a file defines at its top, and the methods of its classes as `Class.method`."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (entry for entry in node.body if isinstance(entry, ast.FunctionDef))
            names |= {f"{node.name}.{method.name}" for method in methods}
    return names


def test_feature_linked_names_are_defined_where_the_link_leads():
    """Links such as [`Trainer.train_step`](../trainer.py)."""
    count = 0
    for file in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for name, target in re.findall(r"\[`([\w.]+)`\]\(([^)]+\.py)\)", file.read_text()):
            if not name.endswith(".py"):
                assert name in defined_names(file.parent / target), (file, name, target)
                count += 1
    assert count > 60


def test_feature_documented_options_exist():
    """Every option that the README and the docs write behind a program's name."""
    documented: dict[str, set[str]] = {}
    for file in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```", file.read_text(), re.S | re.M)
        for block in (text for language, text in blocks if language in ("", "bash")):
            program = ""
            for line in block.splitlines():
                if named := re.search(r"(?:python|torchrun) .*?(\w+\.py)\b(.*)", line):
                    program, line = named.groups()
                elif not line.startswith("     "):  # more options of the same program
                    program = ""
                documented.setdefault(program, set()).update(re.findall(r" (--?[a-z][\w-]*)", line))
    del documented[""], documented["convert.py"]  # whose commands have their own options
    assert len(documented) == 6
    for program, options in documented.items():
        command = [sys.executable, ROOT / program, "--help"]
        text = subprocess.run(command, capture_output=True, text=True).stdout
        assert options <= set(re.findall(r"[ |\[](--?[a-z][\w-]*)", text)), program


def test_feature_readme_config_is_valid(tmp_path):
    block = re.search(r"```javascript\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    (tmp_path / "c.json").write_text(block[1])
    assert check(parse_config(tmp_path / "c.json")).warnings == ()


def explains(cls, name):
    """Whether the docstring of a class explains an argument, or that of the base it points to."""
    line = re.search(rf"^ +(?:\w+, )*{name}(?:, \w+)*: (.*)", inspect.getdoc(cls), re.M)
    base = line and re.match(r"As in `(\w+)`", line[1])
    if not base:
        return line is not None
    return any(explains(other, name) for other in cls.__mro__[1:] if other.__name__ == base[1])


@pytest.mark.parametrize("section", SECTIONS)
def test_feature_configurable_classes_say_what_they_take(section):
    """The signature is the schema, so it hides nothing, and the docstring explains it."""
    part = SECTIONS[section]
    ours = [name for name in part.names() if not part.find(name).__module__.startswith("torch")]
    for name in ours:
        cls = part.find(name)
        parameters = inspect.signature(cls).parameters.values()
        assert all(p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters), name
        for parameter in parameters:
            assert explains(cls, parameter.name), (name, parameter)


@pytest.mark.parametrize(
    "package", ["models", "dataloaders", "utils.losses", "utils.optim.lr_scheduler"]
)
def test_smoke_all_names_exist(package):
    module = importlib.import_module(package)
    assert module.__all__ == sorted(module.__all__, key=lambda n: (not n.isupper(), n))
    for name in module.__all__:
        assert isinstance(getattr(module, name), type)


@pytest.mark.parametrize(
    "script", ["train.py", "evaluate.py", "inference.py", "check.py", "convert.py", "serve.py"]
)
def test_feature_help_is_quick_and_light(script):
    code = (
        f"import runpy, sys; sys.argv = ['{script}', '--help']\n"
        f"try: runpy.run_path('{script}', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "sys.exit(bool({'torch', 'numpy', 'cv2'} & set(sys.modules)))"
    )
    result = run_code(code)
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout


def test_feature_a_new_loss_needs_no_more_than_its_name(monkeypatch):
    """A class and its name in `__all__` are all that the config check and the build look at."""

    class Halved(losses.CrossEntropyLoss2d):
        def __init__(self, *, by: float = 2.0, ignore_index: int = 255) -> None:
            super().__init__(ignore_index=ignore_index)
            self.by = by

    monkeypatch.setattr(losses, "Halved", Halved, raising=False)
    monkeypatch.setattr(losses, "__all__", [*losses.__all__, "Halved"])
    tree = {**minimal(), "loss": {"type": "Halved", "args": {"by": 4}}}
    ((loss, term),) = build_losses(check(tree))
    assert (loss.by, loss.ignore_index, term.weight) == (4, 255, 1.0)


@pytest.mark.parametrize("file", [".pre-commit-config.yaml", ".github/workflows/test.yml"])
def test_feature_hooks_and_workflow_call_the_makefile(file):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    called = set(re.findall(r"\bmake ([\w-]+)", (ROOT / file).read_text()))
    assert called and called <= targets

"""Dockerfile, .dockerignore, entry point and health check agree with the repository."""

import http.server
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_project import FOLDERS

DOCKERFILE = (ROOT / "Dockerfile").read_text()
ENTRYPOINT = ROOT / "container" / "entrypoint.sh"
HEALTH = ROOT / "container" / "health.py"
STAGES = re.split(r"^FROM ", DOCKERFILE, flags=re.M)[1:]


def instructions(stage):
    """The instructions of a stage with their words; continued lines are one."""
    lines = re.sub(r"^#.*\n", "", stage, flags=re.M).replace("\\\n", " ").splitlines()[1:]
    return [tuple(line.split(None, 1)) for line in lines if line.strip()]


def as_expression(pattern):
    """A pattern of .dockerignore, which means a path and all below it, as a regular expression."""
    pieces = {"**/": "(?:.*/)?", "*": "[^/]*"}
    words = re.split(r"(\*\*/|\*|\[[^]]*\])", pattern)
    body = "".join(pieces.get(w, w if w.startswith("[") else re.escape(w)) for w in words)
    return re.compile(f"(?:{body})(?:/.*)?")


def is_sent(path):
    """Whether a file gets into the image: the last pattern that fits decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#") and as_expression(line.lstrip("!")).fullmatch(path):
            sent = line.startswith("!")
    return sent


def tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    return listed.stdout.splitlines()


def programs():
    """The files at the top that are run, not imported."""
    return {p.stem for p in ROOT.glob("*.py") if 'if __name__ == "__main__"' in p.read_text()}


def test_feature_the_image_has_the_programs_and_nothing_else():
    files = tracked()
    sent = {path for path in files if is_sent(path)}
    folders = {*FOLDERS, "configs", "container"} - {"benchmarks", "docs", "tests"}
    needed = {
        path
        for path in files
        if path.split("/")[0] in folders or re.fullmatch(r"[^/]+\.py|config\.json|LICENSE", path)
    }
    assert len(needed) > 300 and needed <= sent, needed - sent
    assert all(re.fullmatch(r"requirements.*\.txt|constraints\.txt", p) for p in sent - needed)


@pytest.mark.parametrize(
    "path",
    [
        "saved/x/last.pth", "data/a.png", "models/weights.pth", "models/a/b.safetensors",
        "utils/x.pkl", "base/cache.npy", "configs/model.onnx", "configs/a/.env", ".env",
        ".git/config", ".netrc", "utils/.netrc", "base/__pycache__/x.cpython-311.pyc", "key.pem",
        "a.pth", "tests/conftest.py", "docs/images/report.png", "outputs/mask.png",
    ],
)  # fmt: skip
def test_feature_data_models_and_keys_stay_outside(path):
    assert not is_sent(path)


def test_feature_the_last_stage_is_slim_and_not_root():
    assert len(STAGES) == 2 and "pip install" in STAGES[0]
    last = instructions(STAGES[1])
    words = dict(last)
    user, _, group = words["USER"].partition(":")
    assert int(user) > 0 and int(group) > 0
    # Nothing that changes the image comes after it, and nothing is installed or fetched.
    names = [name for name, _ in last]
    assert not {"RUN", "COPY"} & set(names[names.index("USER") :])
    assert not re.search(r"\b(pip|apt|apt-get|curl|wget|gcc)\b", STAGES[1])
    assert not re.search(r"^ADD ", DOCKERFILE, re.M)
    assert re.search(r'CMD \["python", "/app/container/health.py"\]', words["HEALTHCHECK"])
    assert words["ENTRYPOINT"] == '["/app/container/entrypoint.sh"]'
    assert ENTRYPOINT.stat().st_mode & 0o111 == 0o111


def test_feature_packages_are_those_of_the_requirements_and_pinned():
    first = instructions(STAGES[0])
    (install,) = [text for name, text in first if name == "RUN" and "pip install" in text]
    assert "-r requirements.txt" in install and "-c constraints.txt" in install
    assert not re.search(r"pip install (--\S+ )*[a-z]", install)  # no package beside them
    (extras,) = re.findall(r'^ARG EXTRAS="(.*)"', STAGES[0], re.M)
    for name in extras.split():
        known = (ROOT / f"requirements-{name}.txt").exists()
        assert known, name
    for text in (text for name, text in first if name == "COPY"):
        for pattern in text.split()[:-1]:
            assert list(ROOT.glob(pattern)), pattern


def test_feature_the_entry_point_knows_every_program():
    text = ENTRYPOINT.read_text()
    (choices,) = re.findall(r"^ +(train .*)\) ;;", text, re.M)
    assert set(choices.split(" | ")) == programs()
    for name in programs():
        assert re.search(rf"\b{name}\b", text.split("echo")[1].split(">&2")[0])


@pytest.fixture
def entry(tmp_path):
    """Runs the entry point in front of programs that print how they were called."""
    (tmp_path / "container").mkdir()
    script = shutil.copy(ENTRYPOINT, tmp_path / "container")
    for name in programs():
        (tmp_path / f"{name}.py").write_text("import sys; print(*sys.argv, sep='|'); sys.exit(7)")

    def call(*words):
        done = subprocess.run(["sh", script, *words], capture_output=True, text=True)
        return done.returncode, done.stdout.strip().removeprefix(f"{tmp_path}/"), done.stderr

    return call


def test_feature_the_entry_point_runs_a_program_with_its_words(entry):
    assert entry("train", "--config", "a b.json")[:2] == (7, "train.py|--config|a b.json")
    assert entry("convert.py", "coco")[:2] == (7, "convert.py|coco")
    assert entry("serve", "--model", "m")[:2] == (7, "serve.py|--host|0.0.0.0|--model|m")


@pytest.mark.parametrize("words", [[], ["trainer"], ["sh"], ["../train"]])
def test_exception_no_program(entry, words):
    code, out, err = entry(*words)
    assert (code, out) == (2, "") and "train, inference" in err


class Answer(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):
        self.send_response(self.status if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *words):
        pass


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (["/sbin/docker-init", "--", "/app/container/entrypoint.sh", "serve"], 200, 0),
        (["python", "/app/serve.py", "--model", "m"], 503, 1),
        (["python", "/app/serve.py", "--model", "m"], None, 1),  # nothing listens
        (["python", "/app/train.py", "--config", "serve/c.json"], None, 0),
    ],
)
def test_feature_health(tmp_path, words, status, code):
    (tmp_path / "cmdline").write_bytes("\0".join([*words, ""]).encode())
    handler = type("Handler", (Answer,), {"status": status})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        port = server.server_port
        if status is None:
            server.server_close()
        else:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [sys.executable, HEALTH, str(port), tmp_path / "cmdline"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if status is not None:
            server.shutdown()
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not installed")
def test_feature_hadolint_finds_nothing():
    done = subprocess.run(["hadolint", "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_feature_documented_commands_are_of_programs_and_named_arguments():
    """`docker run ... segmentation <program>` in the docs, and `--build-arg <name>`."""
    declared = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.M))
    texts = [(ROOT / name).read_text() for name in ("README.md", "docs/container.md")]
    for text in (text.replace("\\\n", " ") for text in texts):
        called = re.findall(r"^docker run .*? segmentation (\S+)", text, re.M)
        assert called and set(called) <= programs() | {"serve"}
        assert set(re.findall(r"--build-arg (\w+)=", text)) <= declared
    assert Path(ROOT, "docs/container.md").read_text().count("--build-arg") >= 2

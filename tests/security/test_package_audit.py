"""What `make audit` makes of pip-audit's answers."""

import importlib.util
import json
import subprocess

import pytest

from tests import package_audit

CLEAN = {"name": "a", "version": "1", "vulns": []}
UNKNOWN = {"name": "b", "skip_reason": "Dependency not found"}
BAD = {"name": "c", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}


@pytest.fixture
def answer(monkeypatch):
    """Make pip-audit answer so."""

    def set_answer(stdout="", stderr="", code=0):
        def run(command, **_):
            assert "--disable-pip" in command and str(package_audit.CONSTRAINTS) in command
            return subprocess.CompletedProcess(command, code, stdout, stderr)

        monkeypatch.setattr(subprocess, "run", run)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    return set_answer


@pytest.mark.parametrize(
    ("packages", "code", "words"),
    [
        ([CLEAN, CLEAN], 0, "nothing known of 2 packages"),
        ([CLEAN, UNKNOWN], 0, "not looked up: b"),
        ([UNKNOWN], 0, "skipped, the registry knows nothing"),
        ([CLEAN, BAD, UNKNOWN], 1, "c 2: CVE-1, fixed in: 3"),
    ],
)
def test_feature_what_pip_audit_found(answer, capsys, packages, code, words):
    answer(json.dumps({"dependencies": packages, "fixes": []}), "WARNING: x", code)
    assert package_audit.main() == code
    captured = capsys.readouterr()
    assert words in captured.out + captured.err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [("Could not connect to the vulnerability feed", 0, "the registry cannot be reached"),
     ("ERROR: invalid requirements input", 1, "pip-audit failed: ERROR: invalid")],
)  # fmt: skip
def test_feature_without_a_network_it_is_skipped(answer, capsys, error, code, words):
    answer("", error, 1)
    assert package_audit.main() == code
    captured = capsys.readouterr()
    assert words in captured.out + captured.err


def test_feature_without_pip_audit_it_is_skipped(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert package_audit.main() == 0
    assert "skipped, pip-audit is not installed" in capsys.readouterr().out


def test_feature_a_slow_registry_is_not_waited_for(answer, monkeypatch, capsys):
    def run(command, **_):
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(subprocess, "run", run)
    assert package_audit.main() == 0
    assert "did not answer" in capsys.readouterr().out

"""The table of deliberate faults fits the sources; `make test-guards` applies it."""

import ast

import pytest

from tests.conftest import ROOT
from tests.deliberate_faults import try_fault
from tests.fault_table import FAULTS, Fault


def test_cardinality_names():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_feature_a_fault_fits_its_file_and_its_tests_exist(fault):
    text = (ROOT / fault.file).read_text(encoding="utf-8")
    assert text.count(fault.old) == 1
    faulty = fault.apply(text)
    assert faulty != text
    assert ast.dump(ast.parse(faulty)) != ast.dump(ast.parse(text))
    assert fault.tests
    for test in fault.tests:
        file, *_, function = test.split("::")
        assert f"def {function.partition('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("new, caught", [("2", True), ("1 + 0", False), ("missing", False)])
def test_feature_only_a_test_that_fails_counts(tmp_path, new, caught):
    """One that passes or cannot be imported does not."""
    (tmp_path / "module.py").write_text("value = 1\n")
    (tmp_path / "test_module.py").write_text(
        "from module import value\n\ndef test_it():\n    assert value == 1\n"
    )
    fault = Fault("", "module.py", "value = 1", f"value = {new}", "test_module.py::test_it")
    assert try_fault(fault, tmp_path)[0] is caught
    assert (tmp_path / "module.py").read_text() == "value = 1\n"


def test_exception_a_fault_that_is_no_python(tmp_path):
    (tmp_path / "module.py").write_text("value = 1\n")
    fault = Fault("", "module.py", "= 1", "=", "test_module.py::test_it")
    with pytest.raises(SyntaxError):
        try_fault(fault, tmp_path)
    assert (tmp_path / "module.py").read_text() == "value = 1\n"

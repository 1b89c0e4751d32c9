"""The file of a manifest: what other readers see in it, and what it refuses."""

import csv
import importlib.util
import json
import re

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prediction.jobs.results_file import (
    Row,
    check_results_file,
    checked_row,
    from_cell,
    products_text,
    read_results,
    to_cell,
    write_results,
)

HOSTILE = ["=1+1.jpg", "+x", "-x.jpg", "@x", " =1", "\t=1", "a;=1.jpg", "a|'@b", 'a,"=1', "'=1",
           '"quoted".jpg', "a,b.jpg", "line\nbreak.jpg", "\r.jpg", "\udcff.jpg", "ü/名.png", "\x00",
           "\u2028", "\\udcff", '"', "a b-c=d.jpg", "x;\"'=1", "null", "{}", "1e5", ""]  # fmt: skip
MODEL, SETTINGS = "m" * 64, "s" * 64


def row(path, error="", **products):
    files = {name: (file, "d" * 64) for name, file in products.items()}
    return Row(path, "i" * 64, MODEL, SETTINGS, products_text(files), 0.125, error)


ROWS = [row(f"{n}{name}" if n % 2 else name, HOSTILE[-n], ids=name, **{f"class:{name}": "x/y.png"})
        for n, name in enumerate(HOSTILE)]  # fmt: skip


def is_formula(cell):
    """Whether a spreadsheet would compute a cell."""
    return cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_feature_rows_come_back(tmp_path, ending):
    path = tmp_path / f"r.{ending}"
    write_results(path, ROWS)
    assert list(read_results(path)) == ROWS
    files = next(one for one in ROWS if one.path == "=1+1.jpg").files()
    assert files == {"ids": ("=1+1.jpg", "d" * 64), "class:=1+1.jpg": ("x/y.png", "d" * 64)}
    write_results(path, [])
    assert list(read_results(path)) == []


@given(st.text() | st.text(alphabet=list("=+-@;|,\t\"' a\\\n\udcff")))
def test_feature_cells_come_back(text):
    cell = to_cell(text)
    assert from_cell(cell) == text
    cell.encode()
    for part in re.split(r"[;|,\t]", cell):
        assert not is_formula(part) and not is_formula(part.strip(" \"'"))
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", cell)


def test_feature_usual_names_are_as_they_are():
    for text in ("a.jpg", "sub/b-1_2.jpg", "ü/名.png", "a b, c.jpg", "x=1.png", "it's.jpg"):
        assert to_cell(text) == text


def test_feature_what_other_readers_of_csv_see(tmp_path):
    """One line a row, and no formula wherever a program ends the cells."""
    path = tmp_path / "r.csv"
    write_results(path, ROWS)
    lines = path.read_bytes().decode().splitlines()
    assert len(lines) == len(ROWS) + 1
    assert lines[0] == "path,image_sha256,model_sha256,settings_sha256,products,seconds,error"
    with open(path, newline="") as file:
        for cells, expected in zip(csv.DictReader(file), ROWS, strict=True):
            assert json.loads(cells["products"]) == json.loads(expected.products)
            assert float(cells["seconds"]) == 0.125
    for delimiter in ",;\t|":
        with open(path, newline="") as file:
            for cells in csv.reader(file, delimiter=delimiter):
                assert not any(map(is_formula, cells)), cells


def test_feature_what_arrow_sees(tmp_path):
    path = tmp_path / "r.parquet"
    write_results(path, [row("a.jpg", ids="a.png"), row("b.jpg", "damaged")])
    table = pyarrow.parquet.read_table(path).to_pydict()
    assert table["path"] == ["a.jpg", "b.jpg"]
    assert table["error"] == ["", "damaged"]
    assert table["seconds"] == [0.125, 0.125]
    assert json.loads(table["products"][0]) == {"ids": ["a.png", "d" * 64]}


def test_feature_a_spreadsheet_may_have_saved_it(tmp_path):
    """With a byte order mark, CRLF and quotes everywhere."""
    path = tmp_path / "r.csv"
    write_results(path, ROWS)
    with open(path, newline="") as file:
        cells = list(csv.reader(file))
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerow(cells[0])
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(cells[1:])
    check_results_file(path)
    assert list(read_results(path)) == ROWS


FOREIGN = {
    "other.csv": b"path,score\na.jpg,1\n", "empty.csv": b"", "binary.csv": b"\xff\xfe\0",
    "other.parquet": b"PAR1nothing", "text.parquet": b"path,image_sha256\n",
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_exception_foreign_files(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FOREIGN[name])
    with pytest.raises(ValueError, match=f"{name} exists and is no manifest"):
        check_results_file(path)
    with pytest.raises(ValueError, match="is no manifest"):
        list(read_results(path))
    assert path.read_bytes() == FOREIGN[name]


def test_exception_other_parquet_files_and_folders(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"path": ["a"]}), tmp_path / "o.parquet")
    (tmp_path / "f.csv").mkdir()
    for name in ("o.parquet", "f.csv"):
        with pytest.raises(ValueError, match="is no manifest"):
            check_results_file(tmp_path / name)
    with pytest.raises(ValueError, match=r"neither .csv nor .parquet"):
        check_results_file(tmp_path / "r.json")
    check_results_file(tmp_path / "new.csv")


def test_exception_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install pyarrow"):
        check_results_file(tmp_path / "new.parquet")
    check_results_file(tmp_path / "new.csv")


LINE = f"a.jpg,i,{MODEL},{SETTINGS},{{}},0.5,"


@pytest.mark.parametrize(
    ("old", "new"),
    [("a.jpg,", ""), ("{}", "[]"), ("{}", "{"), ("{}", '"{""a"":1}"'), ("0.5", "0;5"),
     ("a.jpg", '"""a"'), ("0.5,", "0.5"), ("0.5,", "0.5,x,y")],
)  # fmt: skip
def test_exception_rows_that_another_program_has_changed(tmp_path, old, new):
    path = tmp_path / "r.csv"
    header = ",".join(Row._fields)
    path.write_text(f"{header}\n{LINE}\n{LINE.replace(old, new, 1)}\n")
    with pytest.raises(ValueError, match=r"r\.csv: row 2"):
        list(read_results(path))
    path.write_text(f"{header}\n{LINE}\n")
    (only,) = read_results(path)
    assert only == Row("a.jpg", "i", MODEL, SETTINGS, "{}", 0.5, "")


@pytest.mark.parametrize("values", [[], ["a"] * 7, [None] * 7, ["a", "", "", "", None, 0.5, ""],
                                    ["a", "", "", "", "[" * 100_000, 0.5, ""]])  # fmt: skip
def test_feature_values_that_are_no_row(values):
    assert checked_row(values) is None

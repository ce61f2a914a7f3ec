"""Sources of strangers that name files outside of their folder: pictures and texts of the user who prepares them."""

import json
from pathlib import Path

import pytest

from data_pipelines.errors import DataError
from data_pipelines.prepare import open_source
from data_pipelines.prepare.huggingface import RowReader
from data_pipelines.protocol import Rejected
from data_pipelines.trust import TRUSTED
from tests.unit.data_pipelines.prepare.test_sources import png


@pytest.fixture
def private(tmp_path: Path) -> Path:
    (tmp_path / "private.png").write_bytes(png(77))
    return tmp_path / "private.png"


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "a.png").write_bytes(png(1))
    return tmp_path / "theirs"


@pytest.mark.parametrize("name", ["../private.png", "{0}", "a/../../private.png"])
def test_a_table_names_no_files_outside(
    theirs: Path, private: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (theirs / "list.csv").write_text(f"path,label\na.png,0\n{name.format(private)},1\n")
    with pytest.raises(DataError, match=r"1 of its paths point outside of its folder \(the first: .*--trusted-data"):
        open_source(str(theirs / "list.csv"))
    monkeypatch.setenv(TRUSTED, str(theirs))
    assert len(open_source(str(theirs / "list.csv")).items) == 2


def test_labels_name_no_files_outside(theirs: Path, private: Path) -> None:
    (theirs / "dataset.json").write_text(
        json.dumps({"labels": [["a.png", 0], ["../private.png", 1], [str(private), 1]]})
    )
    source = open_source(str(theirs))
    for item in source.items:
        if item.name != "a.png":
            with pytest.raises(Rejected, match="not there"):
                source.read(item.where)


def test_rows_name_no_files_outside(theirs: Path, private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = RowReader(theirs, ("all",), "image")
    paths = ["a.png", str(theirs / "a.png"), str(private), "../private.png"]
    monkeypatch.setitem(vars(reader), "_rows", [{"image": {"bytes": None, "path": path}} for path in paths])
    assert [reader.read(number) for number in (0, 1)] == [png(1)] * 2
    for number in (2, 3):
        with pytest.raises(Rejected, match="outside: .*points outside of"):
            reader.read(number)
    (theirs / "dataset_dict.json").write_text(json.dumps({"splits": ["../elsewhere"]}))
    with pytest.raises(DataError, match="'../elsewhere' is not a valid name of a split"):
        open_source(f"huggingface:{theirs}")


def test_links_that_lead_outside_are_told(theirs: Path, private: Path) -> None:
    (theirs / "b.png").symlink_to(private)
    (theirs / "c.png").symlink_to("a.png")
    (note,) = open_source(str(theirs)).notes
    assert note.startswith("1 links point outside of the folder, and were followed (b.png)")

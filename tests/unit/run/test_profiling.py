import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bigtrain.distributed.init import Ranks
from bigtrain.run.profiling import COUNT, FIRST, Profiler, Row, profile_table

ALONE = Ranks(0, 1, 0, torch.device("cpu"))


class Work(SimpleNamespace):
    def inner(self, value: int) -> int:
        with self.profile.span("inner"):
            return value + 1

    def outer(self) -> int:
        with self.profile.span("outer"), self.profile.span("phase"):
            return int(self.inner(1)) + int(self.inner(2))


def test_spans_lie_in_each_other_and_are_added_up(tmp_path: Path) -> None:
    work = Work(profile=Profiler(tmp_path, ALONE, active=True))
    assert work.outer() == work.outer() == 5
    rows = {row.name: row for row in work.profile.rows()}
    assert [(row.name, row.depth, row.count) for row in rows.values()] == [
        ("outer", 0, 2),
        ("phase", 1, 2),
        ("inner", 2, 4),
    ]
    assert rows["outer"].seconds >= rows["phase"].seconds >= rows["inner"].seconds > 0
    assert 0 < rows["outer"].share <= 1


def test_the_same_work_in_two_places_has_two_rows(tmp_path: Path) -> None:
    profile = Profiler(tmp_path, ALONE, active=True)
    with profile.span("start"):
        pass
    for _ in range(2):
        with profile.span("evaluate"), profile.span("calibrate"):
            pass
    with profile.span("start"), profile.span("preview"), profile.span("calibrate"):
        pass
    with profile.span("preview"):
        pass
    rows = profile.rows()
    assert [(row.name, row.depth, row.count) for row in rows] == [
        ("start", 0, 2),
        ("preview", 1, 1),
        ("calibrate", 2, 1),
        ("evaluate", 0, 2),
        ("calibrate", 1, 2),
        ("preview", 0, 1),
    ]
    assert sum(row.share for row in rows if row.depth == 0) <= 1


def test_a_span_ends_with_an_error(tmp_path: Path) -> None:
    profile = Profiler(tmp_path, ALONE, active=True)
    with pytest.raises(KeyError), profile.span("wrong"), profile.span("inside"):
        raise KeyError
    with profile.span("after"):
        pass
    assert {row.name: row.depth for row in profile.rows()} == {"wrong": 0, "inside": 1, "after": 0}


@pytest.mark.filterwarnings("ignore")  # of torch's own recorder
def test_writes_traces_that_chrome_reads(tmp_path: Path) -> None:
    profile = Profiler(tmp_path, ALONE, active=True)
    for _ in range(FIRST + COUNT + 1):
        profile.step()
        with profile.span("train_step"):
            torch.ones(8, 8) @ torch.ones(8, 8)
    files = {path.name: path for path in profile.write()}
    assert files.keys() == {"table.json", "timeline-rank0.json", "operators-rank0.json.gz", "operators-rank0.txt"}
    events = json.loads(files["timeline-rank0.json"].read_text())["traceEvents"]
    assert [event["name"] for event in events].count("train_step") == FIRST + COUNT + 1
    assert all(event["ph"] == "X" and event["dur"] > 0 for event in events)
    assert "aten::mm" in files["operators-rank0.txt"].read_text()
    assert json.loads(files["table.json"].read_text())[0]["count"] == FIRST + COUNT + 1


def test_without_it_nothing_is_measured_or_written(tmp_path: Path) -> None:
    work = Work(profile=Profiler(tmp_path, ALONE, active=False))
    work.profile.step()
    assert work.outer() == 5
    assert work.profile.rows() == [] and work.profile.write() == [] and not list(tmp_path.iterdir())


def test_the_table_tells_of_the_rest() -> None:
    table = profile_table([Row("a", 0, 2, 3.0, 0.75), Row("b", 1, 1, 1.0, 0.25)])
    cells = [list(column.cells) for column in table.columns]
    assert cells[0] == ["a", "  b", "the rest"]
    assert cells[3] == ["1500.0", "1000.0", ""]
    assert cells[4] == ["75.0%", "25.0%", "25.0%"]


def test_a_full_disk_costs_the_profile_and_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("a file where the folder should be: it cannot be made")
    profile = Profiler(tmp_path, ALONE, active=True)
    with profile.span("train_step"):
        pass
    assert profile.write() == []

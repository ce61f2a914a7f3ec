"""The spool of a long run, a million lines: opened after a kill, replayed, and read for the status."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bigtrain.tracking.curves import POINTS, Curves
from bigtrain.tracking.spool import FILE_NAME, Spool, read_curves, read_metrics, read_outline

LINES = 1_000_000

PROGRAM = """
import json, sys, time
from pathlib import Path
folder, mark = Path(sys.argv[1]), int(sys.argv[2])
from bigtrain.tracking.spool import Spool, read_curves

def private():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024

before, start = private(), time.process_time()
spool = Spool(folder)
spool.go_on(mark)
spool.append("start", 999_000_000)
for place in range(999_001, 1_000_002):  # the last 1,000 again, and one more
    spool.append("metrics", 1000 * place, metrics={"loss/d": 1.0, "time/img_per_s": 1.0})
opened = time.process_time() - start
start = time.process_time()
curves = read_curves(folder)
print(json.dumps({"open_s": opened, "bytes": private() - before, "status_s": time.process_time() - start,
                  "points": [len(curves["loss/d"]), curves["loss/d"][-1][0]]}))
"""


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A run folder whose spool has a million lines; and the mark of the checkpoint 1,000 lines before its end."""
    folder = tmp_path_factory.mktemp("run")
    line = '{"kind": "metrics", "samples_seen": %d, "time_ms": 1, "metrics": {"loss/d": 1.0, "time/img_per_s": 1.0}}\n'
    with (folder / FILE_NAME).open("w") as file:
        file.writelines(line % (1000 * place) for place in range(1, LINES - 999))
    curves = Curves(offset=(folder / FILE_NAME).stat().st_size)
    for place in range(1, LINES - 999):
        curves.add({"kind": "metrics", "samples_seen": 1000 * place, "metrics": {"loss/d": 1.0}}, curves.offset)
    curves.save(folder)
    spool = Spool(folder)
    spool.go_on(curves.offset)
    spool.append("event", 999_000_000, key="x", text="y")
    mark = spool.mark()
    with (folder / FILE_NAME).open("a") as file:
        file.writelines(line % (1000 * place) for place in range(LINES - 999, LINES + 1))
    return folder, mark


def test_a_million_lines_are_gone_on_with_in_a_second(long_run: tuple[Path, int]) -> None:
    folder, mark = long_run
    command = [sys.executable, "-c", PROGRAM, str(folder), str(mark)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["open_s"] <= 1.0
    assert found["bytes"] <= 100e6
    assert found["status_s"] <= 1.0
    points, last = found["points"]
    assert POINTS // 2 <= points <= POINTS + 1
    assert last == 1_000_001
    with (folder / FILE_NAME).open("rb") as file:
        assert sum(1 for _ in file) == LINES + 3  # the event, the start, and one more: nothing is there twice
    assert [record["kind"] for record in read_outline(folder / FILE_NAME)] == [
        "metrics",
        "event",
        "metrics",
        "start",
        "metrics",
    ]


def test_short_curves_are_whole_and_follow_rollbacks(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for place in range(1, 50):
        spool.append("metrics", 1000 * place, metrics={"a": float(place)})
        if place % 20 == 0:
            spool.mark()
    spool.append("rollback", 30_000, reason="x", begun=49_000)
    assert read_curves(tmp_path) == read_metrics(tmp_path)
    spool.mark()
    spool.append("metrics", 31_000, metrics={"a": 7.0})
    assert read_curves(tmp_path) == read_metrics(tmp_path)
    (tmp_path / "metrics.rollup.json").write_text("{broken")
    assert read_curves(tmp_path) == read_metrics(tmp_path)


def test_a_mark_of_another_file_reads_everything(tmp_path: Path) -> None:
    Spool(tmp_path).append("metrics", 1000, metrics={"a": 1.0})
    spool = Spool(tmp_path)
    spool.go_on(10**9)
    spool.append("metrics", 1000, metrics={"a": 1.0})
    assert read_metrics(tmp_path) == {"a": [(1.0, 1.0)]}

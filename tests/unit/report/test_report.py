"""What a report tells is what the run folders hold."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bigtrain.cli import app
from bigtrain.report.charts import charts
from bigtrain.report.facts import cost, duration, outcome
from bigtrain.report.page import _spread, write_page
from bigtrain.report.runs import Picture, ReportError, differing, read_run, read_runs
from bigtrain.tracking.events import EventLog
from tests.run_folders import leave_run


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [leave_run(tmp_path / "one"), leave_run(tmp_path / "two", lr=0.5, fids=(70.0, 90.0), finished=False)]


def test_a_run_is_read_whole(folders: list[Path]) -> None:
    EventLog(folders[0]).append("rank_failed", kimg=1.0, rank=3)
    run = read_run(folders[0])
    assert (run.status, run.kimg, run.total_kimg, run.devices) == ("finished", 2.0, 2.0, 4)
    assert run.metrics["eval/fid50k"] == [(1.0, 80.0), (2.0, 40.0)]
    assert [(picture.key, picture.kimg) for picture in run.pictures] == [("samples/fakes", 1.0), ("samples/fakes", 2.0)]
    told = {event.what: event for event in run.timeline}
    assert told.keys() == {"started", "health.mode_collapse", "finished", "rank failed"}
    assert told["rank failed"].bad
    assert told["rank failed"].details == "rank 3"
    assert read_run(folders[1]).status == "not finished"


def test_the_best_score_is_the_one_of_the_config(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "run", finished=False)
    with (folder / "config.yaml").open("a") as config:
        config.write("eval: {best: psnr}\n")
    score = {"higher_is_better": True, "protocol": {"metric": "psnr"}}
    with (folder / "metrics.jsonl").open("a") as spool:
        for samples, value in ((1000, 21.5), (2000, 20.0)):
            place = {"samples_seen": samples, "time_ms": 1}
            spool.write(json.dumps({"kind": "score", **place, "key": "eval/psnr", "score": score}) + "\n")
            spool.write(json.dumps({"kind": "metrics", **place, "metrics": {"eval/psnr": value}}) + "\n")
    rows = {row.about: row.cells for row in outcome([read_run(folder)])}
    assert rows["best score"] == ["21.5 at kimg 1 (psnr)"]
    assert rows["last score"] == ["20 at kimg 2 (psnr)"]


def test_tables_say_what_a_run_came_to_and_cost(folders: list[Path]) -> None:
    runs = read_runs(folders)
    rows = {row.about: row.cells for row in outcome(runs)}
    assert rows["best score"] == ["40 at kimg 2 (fid50k)", "70 at kimg 1 (fid50k)"]
    assert rows["last score"][1] == "90 at kimg 2 (fid50k)"
    assert rows["speed"] == ["100 images/s"] * 2
    assert rows["health"][0] == "mode collapse: warning"
    assert "price" in {row.about for row in cost(runs, 2.5)}
    assert "price" not in {row.about for row in cost(runs, None)}
    assert [duration(hours) for hours in (0.01, 3.2, 50)] == ["0 min 36 s", "3 h 12 min", "2 d 2 h"]


def test_only_settings_that_differ_are_differences(folders: list[Path]) -> None:
    assert differing([run.config for run in read_runs(folders)]) == ["optim.G.lr"]


def test_charts_have_every_metric_once_in_its_section(folders: list[Path]) -> None:
    sections = {section["title"]: section for section in charts(read_runs(folders))}
    names = {title: [chart["name"] for chart in section["charts"]] for title, section in sections.items()}
    assert names == {
        "Scores": ["eval/fid50k"],
        "Losses and penalties": ["loss/d_main", "reg/r1"],
        "Health": ["health/mode_collapse"],
        "Throughput": ["time/img_per_s"],
        "Optimisation": ["lr/G"],
    }
    assert sections["Health"]["silent"] == ["nan"]
    traces = sections["Scores"]["charts"][0]["figure"]["data"]
    assert [trace.get("name") for trace in traces] == [None, None, "one", None, None, "two"]  # an interval and a line
    assert traces[2]["y"] == [80.0, 40.0]


def test_the_page_holds_all_of_it_and_nothing_that_a_run_says_is_markup(folders: list[Path], tmp_path: Path) -> None:
    write_page(read_runs(folders), tmp_path / "r.html", price=1.0, pictures=1)
    page = (tmp_path / "r.html").read_text()
    assert page.count("plotly.js v") == 1
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.search(r"(src|href)=\"(?!#|data:)", own)
    assert "few &lt;b&gt;colours&lt;/b&gt; &lt;/script&gt;" in own
    document = json.loads(re.findall(r'<script type="application/json" id="document">(.*?)</script>', own, re.S)[0])
    assert [len(mine) for mine in document["pictures"]["samples/fakes"]] == [1, 1]
    assert document["pictures"]["samples/fakes"][0][0]["source"].startswith("data:image/webp;base64,")


def test_recordings_do_not_make_the_page_too_large(tmp_path: Path) -> None:
    pictures = []
    for kimg in range(8):
        file = tmp_path / f"{kimg}.wav"
        with file.open("wb") as stream:
            stream.truncate(5 << 20)
        pictures.append(Picture("sounds", kimg, file))
    assert [one.kimg for one in _spread(pictures, "sounds", 12)] == [0, 4, 7]
    with pictures[-1].file.open("wb") as stream:
        stream.truncate(40 << 20)
    assert [one.kimg for one in _spread(pictures, "sounds", 12)] == [7]
    assert [one.kimg for one in _spread([*pictures[:3]], "sounds", 2)] == [0, 2]


def test_the_command_finds_a_place_and_refuses_what_is_no_run(folders: list[Path], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", *map(str, folders)])
    assert result.exit_code == 0, result.exception
    assert (tmp_path / "report.html").is_file()
    with pytest.raises(ReportError, match="not a run folder, config.yaml is missing"):
        read_runs([tmp_path])
    with pytest.raises(ReportError, match="named twice"):
        read_runs([folders[0], folders[0]])
    twin = leave_run(tmp_path / "elsewhere" / "one")
    assert [run.name for run in read_runs([folders[0], twin])] == [f"{tmp_path.name}/one", "elsewhere/one"]

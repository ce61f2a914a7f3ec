"""What a trial reads of its run's spool."""

import json
from pathlib import Path
from typing import Any

from launch.sweep.scores import ScoreReader


def score(samples_seen: int, value: float, *, metric: str = "fid", samples: int = 500) -> dict[str, Any]:
    protocol = {"metric": metric, "samples": samples}
    noise = {"low": value - 1, "high": value + 1, "error": 0.5}
    document = {"value": value, "higher_is_better": False, "noise": noise, "protocol": protocol}
    return {"kind": "score", "samples_seen": samples_seen, "key": "eval/x", "score": document}


def test_scores_come_once_and_whole(tmp_path: Path) -> None:
    tail = ScoreReader(tmp_path, "fid", 500)
    assert tail.read() == []
    lines = [
        {"kind": "metrics", "samples_seen": 500, "metrics": {"time/img_per_s": 80.0}},
        score(1000, 40.0),
        score(1000, 35.0, samples=50_000),
        score(1000, 0.1, metric="kid (blocks of 100)"),
        score(2000, 30.0),
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    spool = tmp_path / "metrics.jsonl"
    spool.write_text(text[:-20])  # the last line is being written
    (first,) = tail.read()
    facts = {"value": 40.0, "error": 0.5, "img_per_s": 80.0, "higher_is_better": False}
    assert first == {"samples_seen": 1000, **facts}
    spool.write_text(text)
    assert [one["value"] for one in tail.read()] == [30.0]
    assert tail.read() == []
    assert tail.samples_seen == 2000


def test_a_metric_with_settings_goes_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps(score(1000, 0.1, metric="kid (blocks of 100)")) + "\n")
    assert [one["value"] for one in ScoreReader(tmp_path, "kid", 500).read()] == [0.1]

"""A run folder from a stranger, and what the commands that read it must not do for them."""

import json
from pathlib import Path

import pytest

from bigtrain.checkpoint.folders import CheckpointFolder, hashes_of, is_whole
from bigtrain.config import load_training
from bigtrain.core.config import ConfigError
from bigtrain.evaluation.evaluator import ScoreConfig
from bigtrain.generate.snapshot import SnapshotError, networks_in
from bigtrain.report.runs import ReportError, read_run
from bigtrain.run.watch import scores_for
from bigtrain.tracking.sender import Sender, send_run
from tests.run_folders import leave_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return leave_run(tmp_path / "runs" / "stranger")


@pytest.fixture
def private(tmp_path: Path) -> Path:
    (tmp_path / "private.png").write_text("hush")
    return tmp_path / "private.png"


def add_record(run: Path, **record: object) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"samples_seen": 9, "time_ms": 9, "key": "samples/fakes", **record}) + "\n")


@pytest.mark.parametrize("full", [False, True])
def test_watching_it_runs_no_file_of_its_config(run: Path, full: bool) -> None:
    theirs = f"file:{run}/extractor.py"
    where = (
        f"eval.full={{interval_kimg: 1.0, metrics: [fid], extractor: '{theirs}'}}"
        if full
        else f"eval.extractor={theirs}"
    )
    config = load_training("configs/quickstart.yaml", [f"run_dir={run}", where])
    with pytest.raises(ConfigError, match=r"would run the Python file of eval.extractor.*add --extractor file:"):
        scores_for(config, ScoreConfig())
    assert scores_for(config, ScoreConfig(extractor="vgg16")).extractor == "vgg16"
    assert scores_for(config, ScoreConfig(extractor=theirs)).extractor == theirs


@pytest.mark.parametrize("way", ["absolute", "climbing", "link"])
def test_no_file_outside_of_it_is_sent_or_shown(run: Path, private: Path, way: str) -> None:
    from bigtrain.tracking.mlflow import MlflowRun

    (run / "images" / "linked.png").symlink_to(private)
    name = {"absolute": str(private), "climbing": "../../private.png", "link": "images/linked.png"}[way]
    sending = object.__new__(MlflowRun)  # without a server: nothing is asked of it
    sending._folder = run
    for kind in ("artifact", "image", "snapshot", "model"):
        (reason,) = sending.send({"kind": kind, "file": name, "key": "x", "samples_seen": 9, "time_ms": 9})
        assert f"points outside of {run}" in reason
    (run / "snapshots" / "kimg1").mkdir(parents=True)
    (run / "snapshots" / "kimg1" / "generator.safetensors").symlink_to(private)
    (reason,) = sending.send({"kind": "snapshot", "file": "snapshots/kimg1", "key": "x", "samples_seen": 9})
    assert f"points outside of {run}" in reason
    add_record(run, kind="image", file=name)
    with pytest.raises(ReportError, match="points outside of"):
        read_run(run)


def test_no_log_outside_of_it_is_sent(run: Path, private: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Server:
        def __init__(self) -> None:
            self.got: list[str] = []

        def send_log(self, path: Path) -> None:
            self.got.append(path.name)

    (run / "logs").mkdir()
    (run / "logs" / "rank0.log").write_text("fine")
    (run / "logs" / "rank1.log").symlink_to(private)
    sender, server = Sender(run, None, None), Server()
    sender._run = server  # type: ignore[assignment]
    for _ in range(2):
        sender._send_logs(now=True)
    assert server.got == ["rank0.log"]
    assert capsys.readouterr().err.count("'logs/rank1.log' points outside of") == 1


@pytest.mark.parametrize("where", ["spool", "memory"])
def test_it_is_not_sent_to_a_server_that_it_names(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    theirs = "http://127.0.0.1:9"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if line["kind"] == "start":
            line["mlflow"] = {
                "uri": theirs if where == "spool" else None,
                "experiment": "a",
                "name": "b",
                "parent": None,
            }
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if where == "memory":
        (run / "mlflow.json").write_text(json.dumps({"uri": theirs}))
    assert not send_run(run)
    assert f"if you trust it: bigtrain sync {run} --uri {theirs}" in capsys.readouterr().err
    assert Sender(run, theirs, None)._unexpected_server() is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", theirs)
    assert Sender(run, None, None)._unexpected_server() is None


def test_a_checkpoint_holds_no_further_file_of_tensors(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    path = tmp_path / "kimg000001.000"
    partial = folder.begin(path)
    (partial / "shard-00001-model.safetensors").write_bytes(b"tensors")
    facts = {"format": "bigtrain-checkpoint/2", "samples_seen": 1000, "healthy": True, "best": False}
    folder.commit(path, {**facts, "files": hashes_of([partial / "shard-00001-model.safetensors"])})
    assert is_whole(path)
    (path / "zzz.safetensors").write_bytes(b"other tensors, which the reader would merge")
    assert not is_whole(path)


def test_a_snapshots_networks_are_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "snapshot.json").write_text(
        json.dumps({"format": "bigtrain-snapshot/2", "networks": {"../../elsewhere": {}}, "sampler": {}})
    )
    with pytest.raises(SnapshotError, match="'../../elsewhere' is not a valid name of a network"):
        networks_in(tmp_path)

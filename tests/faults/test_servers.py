"""The servers that a run needs fail in the middle of it: it ends as if they had not."""

import json
import time
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM

import pytest

from bigtrain.chaos.compare import differences, last_checkpoint
from bigtrain.core.presence import read_heartbeat
from bigtrain.tracking.spool import read_metrics
from data_pipelines.prepare import NAMED_SOURCES
from data_pipelines.write import ShardOptions, write_shards
from tests.faults.runs import Runs, ended, events, mlflow_id, wait_for, wait_until
from tests.integration.mlflow_server import MlflowServer, Server, installed, postgres
from tests.unit.data_pipelines.faulty_server import serve

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


class Gated:
    """A run that waits at gates, see `sabotage.GATES`, until they are opened.

    Args:
        runs: where it is.
        name: of the run.
    """

    def __init__(self, runs: Runs, name: str) -> None:
        self.folder = runs.root / name
        self._process = runs.start_with("tests.faults.sabotage gates:0", name)

    def comes_to(self, gate: int) -> None:
        """Wait for it."""
        wait_until((self.folder / f"gate-{gate}.reached").exists, self._process)

    def passes(self, gate: int) -> None:
        """Let it through."""
        (self.folder / f"gate-{gate}").touch()

    def ends(self) -> Path:
        """See that it ends well."""
        return ended(self._process, self.folder)


@pytest.mark.skipif(not installed(), reason="Debian's postgresql is not installed")
def test_mlflow_is_killed_and_hangs_and_its_database_is_restarted(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hush-hush")
    every_step = runs.having("log.interval_kimg=0.016")
    peaceful = every_step.finish("untracked")
    with postgres() as database, MlflowServer(tmp_path, database.address) as mlflow:
        server = Server(mlflow.url, database.address, mlflow.artifacts)
        tracked = every_step.having("tracking.mlflow=true", f"tracking.uri={mlflow.url}", "tracking.flush_seconds=400")
        run = Gated(tracked, "tracked")

        run.comes_to(16)
        wait_until(lambda: (run.folder / "mlflow.json").exists() and stored(server, run.folder))
        mlflow.kill()
        run.passes(16)
        run.comes_to(24)
        mlflow.start()
        wait_until(lambda: stored(server, run.folder) == spooled(run.folder))

        mlflow.send(SIGSTOP)
        run.passes(24)
        run.comes_to(32)
        time.sleep(6)  # longer than the sender waits for an answer
        mlflow.send(SIGCONT)
        run.passes(32)
        database.restart()
        assert differences(peaceful, run.ends()) == []
        assert stored(server, run.folder) == spooled(run.folder)
        assert server.query("select count(*) from runs") == [(1,)]
    assert not [path for path in files_below(run.folder) if b"hush-hush" in path.read_bytes()]


def stored(server: Server, run: Path) -> list[tuple[object, ...]]:
    """Return what the database has of a run but the load of the node, which has a spool of its own."""
    rows = server.query("select key, step, value from metrics where run_uuid = %s", mlflow_id(run))
    return sorted((key, step, value) for key, step, value in rows if not str(key).startswith("system/"))


def spooled(run: Path) -> list[tuple[object, ...]]:
    metrics = read_metrics(run).items()
    return sorted((name, round(1000 * kimg), value) for name, points in metrics for kimg, value in points)


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_shard_server_stutters_and_then_goes_away_for_a_time(runs: Runs, tmp_path: Path) -> None:
    # So small that the training comes to another one every four steps.
    write_shards(NAMED_SOURCES["fashion-mnist-10k"]("all"), tmp_path / "shards", ShardOptions(shard_samples=64))
    options = ("data.window=1", "data.on_corrupt=fail", "data.cache.patience_seconds=1")
    with serve(tmp_path / "shards") as server:
        served = Runs(server.url, runs.root, (*runs.settings, *options), restarts=9)
        peaceful = served.having(f"data.cache.folder={tmp_path / 'cache'}").finish("well-served")
        run = Gated(served.having(f"data.cache.folder={tmp_path / 'another'}"), "badly-served")
        names = sorted(path.name for path in files_below(tmp_path / "shards"))

        run.comes_to(16)
        misdeeds = ["503", "reset", "truncate", "flip"]
        server.misdeeds = {name: [misdeeds[n % 4], misdeeds[(n + 1) % 4]] for n, name in enumerate(names)}
        before = server.requests.total()
        run.passes(16)
        run.comes_to(24)
        assert server.requests.total() > before
        assert events(run.folder) == ["start"]

        server.misdeeds = {name: ["503"] * 1000 for name in names}
        run.passes(24)
        wait_until(lambda: events(run.folder).count("restart") > 1)
        server.misdeeds = {}
        run.comes_to(32)
        run.passes(32)
        assert differences(peaceful, run.ends()) == []
        assert events(run.folder)[-2:] == ["resumed", "complete"]
        assert not (run.folder / "quarantine.jsonl").exists()


def test_a_stop_while_all_ranks_wait_for_a_server_that_stalls(runs: Runs, tmp_path: Path) -> None:
    write_shards(NAMED_SOURCES["fashion-mnist-10k"]("all"), tmp_path / "shards", ShardOptions(shard_samples=64))
    options = ("data.window=1", "data.on_corrupt=fail", f"data.cache.folder={tmp_path / 'cache'}")
    with serve(tmp_path / "shards") as server:
        served = Runs(server.url, runs.root, (*runs.settings, *options), restarts=0)
        run, process = runs.root / "stalled", served.start("stalled")
        wait_for(run, 64, process)
        server.misdeeds = {path.name: ["stall"] * 1000 for path in files_below(tmp_path / "shards")}
        beats: list[int] = []
        while len(beats) < 60 or beats[-1] > beats[-60]:  # until nothing moves for twelve seconds
            beats.append(read_heartbeat(run)["samples_seen"])
            time.sleep(0.2)
        asked = time.monotonic()
        process.send_signal(SIGTERM)
        out, err = process.communicate(timeout=200)
        assert process.returncode == 3, err
        assert time.monotonic() - asked < 60
        assert "Traceback" not in err
        assert "all saved; the same command resumes" in out
        saved = json.loads((last_checkpoint(run) / "checkpoint.json").read_text())
        assert 64 <= beats[-1] <= saved["samples_seen"] < 640
        server.misdeeds = {}
        assert differences(served.finish("not-stalled"), served.finish("stalled")) == []
        assert events(run) == ["start", "stopped", "resumed", "complete"]

"""What goes wrong in real runs of two ranks, and that they end as if it had not."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bigtrain.chaos.compare import differences, last_checkpoint
from bigtrain.chaos.victims import Victim, find
from bigtrain.presence import read_heartbeat
from bigtrain.run_folder import read_stopped
from bigtrain.status import status_of
from bigtrain.tracking.events import read_events
from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(900)


@dataclass
class Runs:
    """Where runs are, and how they are started."""

    data: Path
    root: Path

    def words(self) -> list[str]:
        settings = ["total_kimg=0.64", "checkpoint.interval_kimg=0.16", "eval.interval_kimg=0", "tracking.mlflow=false"]
        settings += ["health.features_kimg=0", "preview.interval_kimg=0", "data.loader=processes"]
        return [str(ROOT / "tests" / "tiny.yaml"), f"data.path={self.data}", *settings]

    def start(self, name: str) -> subprocess.Popen[str]:
        command = ["bigtrain", "train", *self.words(), f"run_dir={self.root / name}", "--nproc", "2"]
        return self._start([*command, "--max-restarts", "2"])

    def start_with_fault(self, name: str, fault: str) -> subprocess.Popen[str]:
        return self._start(["tests.faults.drive", fault, str(self.root / name), *self.words()])

    def _start(self, words: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )

    def finish(self, name: str) -> Path:
        """Run to the end."""
        process = self.start(name)
        _, err = process.communicate()
        assert process.returncode == 0, err
        return self.root / name


@pytest.fixture(scope="module")
def runs(fashion: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(fashion, tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def undisturbed(runs: Runs) -> Path:
    return runs.finish("undisturbed")


def events(run: Path) -> list[str]:
    return [event["event"] for event in read_events(run)]


def wait_for(run: Path, samples_seen: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 400
    while read_heartbeat(run).get("samples_seen", 0) < samples_seen:
        assert time.monotonic() < deadline, "the run does not move"
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def one_rank(victims: list[Victim]) -> list[psutil.Process]:
    return [victim.process for victim in victims if victim.role == "rank"][-1:]


def everything(victims: list[Victim]) -> list[psutil.Process]:
    return [victim.process for victim in victims]


@pytest.mark.parametrize(
    ("number", "whom"), [(signal.SIGUSR1, one_rank), (signal.SIGTERM, everything)], ids=["one_rank", "everything"]
)
def test_a_signal_stops_all_at_one_step(
    runs: Runs, undisturbed: Path, number: signal.Signals, whom: Callable[[list[Victim]], list[psutil.Process]]
) -> None:
    name = f"stopped-{number.name}"
    process = runs.start(name)
    wait_for(runs.root / name, 100, process)
    asked = time.monotonic()
    for one in whom(find(process.pid)):
        one.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    assert "all saved; the same command goes on from there" in out
    assert time.monotonic() - asked < 60
    stopped = read_stopped(runs.root / name)
    assert stopped is not None
    assert stopped["signal"] == number.name
    assert status_of(runs.root / name)["state"] == "stopped"
    assert differences(undisturbed, runs.finish(name)) == []
    assert events(runs.root / name) == ["start", "stopped", "resumed", "complete"]


@pytest.mark.slow
def test_a_rank_without_memory_is_started_again(runs: Runs, undisturbed: Path) -> None:
    process = runs.start_with_fault("oom", "oom:1")
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert differences(undisturbed, runs.root / "oom") == []
    told = events(runs.root / "oom")
    assert told == ["start", "restart", "resumed", "complete"]
    lost = read_events(runs.root / "oom")[2]["lost_kimg"]
    assert lost <= 0.16


@pytest.mark.slow
def test_a_nan_on_one_rank_is_a_skipped_step_on_all(runs: Runs) -> None:
    """As if every rank had had it, which is as good as a run can get without that gradient."""
    for name in ("nan:1", "nan:all"):
        process = runs.start_with_fault(name, name)
        _, err = process.communicate()
        assert process.returncode == 0, err
    assert events(runs.root / "nan:1") == ["start", "skipped_step", "complete"]
    assert differences(runs.root / "nan:all", runs.root / "nan:1") == []


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(runs: Runs, undisturbed: Path) -> None:
    process = runs.start_with_fault("clock", "clock:all")
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert differences(undisturbed, runs.root / "clock") == []


@pytest.mark.slow
def test_a_full_disk_ends_it_with_one_line_and_a_damaged_checkpoint_is_passed_over(
    runs: Runs, undisturbed: Path
) -> None:
    process = runs.start_with_fault("disk", "disk:all")
    _, err = process.communicate()
    assert process.returncode == 2
    assert err.count("the checkpoint cannot be written") == 1
    assert "Traceback" not in err
    newest = last_checkpoint(runs.root / "disk")
    assert newest.name == "kimg000000.160"
    process = runs.start("disk")
    wait_for(runs.root / "disk", 400, process)
    for one in one_rank(find(process.pid)):
        os.kill(one.pid, signal.SIGKILL)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    file = next(last_checkpoint(runs.root / "disk").glob("shard-00001-*"))
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 4
    file.write_bytes(data)
    assert differences(undisturbed, runs.finish("disk")) == []
    assert "damaged_checkpoint" in events(runs.root / "disk")


def test_a_second_signal_forces_the_exit(runs: Runs) -> None:
    process = runs.start("forced")
    wait_for(runs.root / "forced", 50, process)
    ranks = [victim.process for victim in find(process.pid) if victim.role == "rank"]
    for rank in ranks:
        rank.suspend()  # they cannot save
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode not in (0, 3)
    psutil.wait_procs(ranks, timeout=10)
    assert not any(rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE for rank in ranks)
    assert json.loads((runs.root / "forced" / "heartbeat.json").read_text())["samples_seen"] >= 50

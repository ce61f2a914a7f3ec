"""What goes wrong in the ranks of real runs, and that they end as if it had not."""

import contextlib
import os
import re
import signal
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bigtrain.chaos.compare import differences, last_checkpoint
from bigtrain.tracking.events import read_events
from tests.faults.runs import Runs, ended, events, processes, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
GROUPS = Path("/sys/fs/cgroup/memory")


def with_fault(runs: Runs, name: str, fault: str) -> Path:
    return ended(runs.start_with(f"tests.faults.sabotage {fault}", name), runs.root / name)


def test_a_rank_that_stands_still_is_named_and_all_are_started_again(runs: Runs, undisturbed: Path) -> None:
    watched, run = runs.having("watchdog.step_seconds=20", "watchdog.pause_seconds=60"), runs.root / "hung"
    process = watched.start("hung")
    wait_for(run, 400, process)
    rank = processes(process.pid, "rank")[-1]
    os.kill(rank.pid, signal.SIGSTOP)
    ended(process, run)
    assert differences(undisturbed, run) == []
    assert events(run) == ["start", "restart", "resumed", "complete"]
    assert re.search(rf"rank \d \(host \S+, pid {rank.pid}, in .*\) does not run", read_events(run)[1]["cause"])


def test_a_rank_without_memory_is_started_again(runs: Runs, undisturbed: Path) -> None:
    run = with_fault(runs, "oom", "oom:1")
    assert differences(undisturbed, run) == []
    assert events(run) == ["start", "restart", "resumed", "complete"]
    assert read_events(run)[2]["lost_kimg"] <= 0.16


@pytest.fixture
def starving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A control group whose processes the kernel kills when they want 50 MB more."""
    group = GROUPS / f"bigtrain-{uuid.uuid4().hex[:8]}"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text("50000000")
    monkeypatch.setenv("STARVING_GROUP", str(group))
    yield group
    group.rmdir()


@pytest.mark.skipif(not os.access(GROUPS / "cgroup.procs", os.W_OK), reason="no control group (v1) for memory of ours")
def test_a_rank_that_the_kernel_kills_for_memory_is_started_again(
    runs: Runs, undisturbed: Path, starving: Path
) -> None:
    run = with_fault(runs, "starved", "starve:1")
    assert "oom_kill 1" in (starving / "memory.oom_control").read_text()
    assert differences(undisturbed, run) == []
    assert events(run) == ["start", "restart", "resumed", "complete"]
    assert read_events(run)[1]["cause"] == "rank 1 was killed by SIGKILL"


def test_a_nan_on_one_rank_is_a_skipped_step_on_all(runs: Runs) -> None:
    """As if every rank had had it, which is as good as a run can get without that gradient."""
    one, all_of_them = (with_fault(runs, fault, fault) for fault in ("nan:1", "nan:all"))
    assert events(one) == ["start", "skipped_step", "complete"]
    assert differences(all_of_them, one) == []


@pytest.mark.parametrize("ranks", ["0", "all"])
def test_a_clock_that_jumps_changes_nothing(runs: Runs, undisturbed: Path, ranks: str) -> None:
    assert differences(undisturbed, with_fault(runs, f"clock-{ranks}", f"clock:{ranks}")) == []


def test_a_full_disk_ends_it_with_one_line_and_a_damaged_checkpoint_is_passed_over(
    runs: Runs, undisturbed: Path
) -> None:
    process = runs.start_with("tests.faults.sabotage disk:all", "disk")
    _, err = process.communicate()
    assert process.returncode == 2
    assert err.count("the checkpoint cannot be written") == 1
    assert "Traceback" not in err
    newest = last_checkpoint(runs.root / "disk")
    assert newest.name == "kimg000000.160"
    process = runs.start("disk")
    wait_for(runs.root / "disk", 400, process)
    processes(process.pid, "rank")[-1].kill()
    process.send_signal(signal.SIGTERM)
    process.communicate()
    file = next(last_checkpoint(runs.root / "disk").glob("shard-00001-*"))
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 4
    file.write_bytes(data)
    assert differences(undisturbed, runs.finish("disk")) == []
    assert "damaged_checkpoint" in events(runs.root / "disk")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 40 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("trouble", ["full", "checkpoints", "snapshots"])
def test_a_real_disk_that_cannot_be_written_costs_nothing(
    runs: Runs, undisturbed: Path, disk: Path, trouble: str
) -> None:
    there = replace(runs, root=disk)
    process = there.start("run")
    wait_for(disk / "run", 200, process)
    locked = disk / "run" / trouble
    if trouble == "full":
        with contextlib.suppress(OSError), (disk / "other").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
    else:  # not even root can make a file in it
        locked.mkdir(exist_ok=True)
        subprocess.run(["chattr", "+i", locked], check=True)
    _, err = process.communicate()
    assert process.returncode == 2, err
    assert err.count("cannot be written") == 1
    assert "Traceback" not in err
    if trouble == "full":
        (disk / "other").unlink()
    else:
        subprocess.run(["chattr", "-i", locked], check=True)
    assert differences(undisturbed, there.finish("run")) == []

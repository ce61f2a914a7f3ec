"""Signals to runs whose processes are just starting, or ending after a failure: always the exit code of a stop."""

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, SIGUSR1, Signals

import psutil
import pytest

from tests.faults.runs import Runs, processes, wait_for, wait_until

pytestmark = pytest.mark.timeout(1800)

Whom = Callable[[int], Sequence[psutil.Process]]


def the_command(command: int) -> Sequence[psutil.Process]:
    return [psutil.Process(command)]


def everything(command: int) -> Sequence[psutil.Process]:
    """All processes, the command first, as a service manager or Slurm signals them."""
    return [psutil.Process(command), *psutil.Process(command).children(recursive=True)]


def ranks(command: int) -> Sequence[psutil.Process]:
    return processes(command, "rank")


@pytest.fixture(scope="module")
def runs(fashion: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(fashion, tmp_path_factory.mktemp("early"))


def assert_stops(process: subprocess.Popen[str], number: Signals, whom: Whom, *, failed: bool = False) -> None:
    for one in whom(process.pid):
        try:
            one.send_signal(number)
        except psutil.NoSuchProcess:
            continue
    out, err = process.communicate(timeout=200)
    assert process.returncode == 3, (out, err)
    assert not [name for name in ("SignalException", "KeyboardInterrupt", "SystemExit") if name in err]
    assert failed or "Traceback" not in err, "a rank that has failed shows its own"
    assert f"stopped by {number.name}" in out + err or "stopped by SIGTERM" in out
    assert "the same command" in out + err


def has_launcher(command: int) -> bool:
    return bool(processes(command, "launcher"))


def has_ranks(command: int) -> bool:
    return len(ranks(command)) == 2


@pytest.mark.parametrize(
    ("moment", "number", "whom"),
    [
        (has_launcher, SIGTERM, the_command),  # its interpreter is just starting
        (has_ranks, SIGINT, everything),
        pytest.param(has_launcher, SIGINT, everything, marks=pytest.mark.slow),
        pytest.param(has_ranks, SIGTERM, the_command, marks=pytest.mark.slow),
        pytest.param(has_ranks, SIGUSR1, the_command, marks=pytest.mark.slow),
        pytest.param(has_ranks, SIGTERM, ranks, marks=pytest.mark.slow),
    ],
)
def test_a_signal_as_a_process_is_born(runs: Runs, moment: Callable[[int], bool], number: Signals, whom: Whom) -> None:
    process = runs.start(f"born-{moment.__name__}-{number.name}-{whom.__name__}")
    wait_until(lambda: moment(process.pid), process)
    assert_stops(process, number, whom)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "whom"), [(SIGTERM, everything), (SIGINT, the_command)])
def test_a_signal_at_any_moment_of_the_start(runs: Runs, number: Signals, whom: Whom) -> None:
    for moment in range(6):
        process = runs.start(f"start-{number.name}-{whom.__name__}-{moment}")
        time.sleep(0.2 * 2**moment)  # 0.2 to 6.4 s: the interpreter has begun, and ranks take their first steps
        assert_stops(process, number, whom)


@pytest.mark.slow
@pytest.mark.parametrize("whom", [the_command, everything])
def test_a_signal_while_ranks_end_after_a_failure(runs: Runs, whom: Whom) -> None:
    """They end, the command starts others, which begin: in all of this it is asked to stop."""
    for moment in range(4):
        name = f"failing-{whom.__name__}-{moment}"
        process = runs.start(name)
        wait_for(runs.root / name, 32, process)
        ranks(process.pid)[-1].send_signal(SIGKILL)
        time.sleep(0.05 * 4**moment)  # 0.05 to 3.2 s
        assert_stops(process, SIGTERM, whom, failed=True)

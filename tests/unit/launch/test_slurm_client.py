"""Slurm's answers among banners, its silences, and what its commands inherit; Slurm itself is a stand-in."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.slurm import client
from launch.slurm.client import Queued, SlurmError, SlurmSilentError

BANNER = "\n-------\n  Welcome to the Example3 Supercomputer\n-------\n42 nodes | are free\n"
TIMED_OUT = "slurm_load_jobs error: Socket timed out on send/recv operation"
Answer = tuple[int, str, str]


class Site:
    """Answers Slurm's commands, each time with the next of its answers, the last one for ever."""

    def __init__(self, **answers: list[Answer]) -> None:
        self.answers, self.calls, self.waited = answers, [], []  # type: ignore[var-annotated]
        self.environment: dict[str, str] = {}

    def run(self, command: tuple[str, ...], **how: object) -> "subprocess.CompletedProcess[str]":
        self.calls.append(command)
        self.environment = how["env"]  # type: ignore[assignment]
        answers = self.answers[command[0]]
        code, out, err = answers.pop(0) if len(answers) > 1 else answers[0]
        return subprocess.CompletedProcess(command, code, out, err)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Site]:
    def make(**answers: list[Answer]) -> Site:
        made = Site(**answers)
        monkeypatch.setattr(subprocess, "run", made.run)
        monkeypatch.setattr(time, "sleep", made.waited.append)
        return made

    return make


@pytest.mark.parametrize("answer", ["4242\n", "4242;example\n", f"{BANNER}sbatch: INFO: 128 GB\n4242;example\n"])
def test_a_jobs_number_is_a_line_of_its_own(
    site: Callable[..., Site], answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    site(sbatch=[(0, answer, "")], squeue=[(0, "", "")])
    assert client.submit(Path("/run/train.sbatch")) == "4242"
    assert ("INFO: 128 GB" in answer) == ("INFO: 128 GB" in capsys.readouterr().err), "a site's note is passed on"


def test_of_several_numbers_the_queue_tells_the_jobs(site: Callable[..., Site]) -> None:
    answer = "2026\n4242\n80\n"
    site(sbatch=[(0, answer, "")], squeue=[(0, "", ""), (0, "80|/another\n4242|/run/train.sbatch\n", "")])
    assert client.submit(Path("/run/train.sbatch")) == "4242"
    site(sbatch=[(0, answer, "")], squeue=[(0, "", "")])
    with pytest.raises(SlurmError, match=r"several numbers \(2026, 4242, 80\); look with squeue --me"):
        client.submit(Path("/run/train.sbatch"))


def test_an_answer_without_a_number_is_told(site: Callable[..., Site]) -> None:
    site(sbatch=[(0, BANNER, "")], squeue=[(0, "", "")])
    with pytest.raises(SlurmError, match="answered with no job's number, but: .*Welcome"):
        client.submit(Path("/run/train.sbatch"))


@pytest.mark.parametrize(
    ("state", "alive"),
    [("SIGNALING", True), ("STAGE_OUT", True), ("SPECIAL_EXIT", True), ("NODE_FAIL", False), ("TIMEOUT", False)],
)
def test_only_a_state_that_is_an_end_ends_a_job(state: str, alive: bool) -> None:
    assert Queued(state, "").is_alive == alive


def test_the_queue_is_read_among_banners(site: Callable[..., Site]) -> None:
    site(squeue=[(0, f"{BANNER}7|RUNNING|n[1-2]\n8_3|PENDING|(Priority|Resources)\n9_[0-3]|PENDING|(None)\n", "")])
    assert client.queue() == {
        "7": Queued("RUNNING", "n[1-2]"),
        "8_3": Queued("PENDING", "(Priority|Resources)"),
        "9_[0-3]": Queued("PENDING", "(None)"),
    }


def test_a_silent_controller_is_asked_again_for_a_minute(site: Callable[..., Site]) -> None:
    here = site(squeue=[(1, "", TIMED_OUT)] * 3 + [(0, "7|RUNNING|n1\n", "")])
    assert client.queue() == {"7": Queued("RUNNING", "n1")}
    assert here.waited == [1, 2, 4]
    here = site(squeue=[(1, "", TIMED_OUT)])
    with pytest.raises(SlurmSilentError, match="Socket timed out .*asked again for 63 s"):
        client.queue()
    assert sum(here.waited) >= 60
    here = site(scancel=[(1, "", "scancel: error: Kill job error on job id 7: Invalid job id specified")])
    with pytest.raises(SlurmError, match="Slurm refuses: Kill job error"):
        client.cancel("7")
    assert not here.waited, "a refusal is an answer"


def test_a_job_is_not_queued_twice(site: Callable[..., Site]) -> None:
    silent = (1, "", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
    queues = [(0, "5|/run/train.sbatch\n", ""), (0, "5|/run/train.sbatch\n6|/other\n7|/run/train.sbatch\n", "")]
    here = site(sbatch=[silent, (0, "8\n", "")], squeue=queues)
    assert client.submit(Path("/run/train.sbatch")) == "7", "it was queued, though the answer was lost"
    assert sum(call[0] == "sbatch" for call in here.calls) == 1
    site(sbatch=[silent, (0, "8\n", "")], squeue=queues[:1])
    assert client.submit(Path("/run/train.sbatch")) == "8"


def test_an_outer_job_leaves_no_trace(site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    outer = ("SLURM_JOB_ID", "SLURM_MEM_PER_CPU", "SBATCH_TIMELIMIT", "SCANCEL_STATE", "RANK", "OMPI_COMM_WORLD_SIZE")
    site_wide = ("SLURM_CONF", "SBATCH_ACCOUNT", "PATH")
    for name in (*outer, *site_wide):
        monkeypatch.setenv(name, "1")
    here = site(squeue=[(0, "", "")])
    client.queue()
    assert not here.environment.keys() & set(outer)
    assert here.environment.keys() >= set(site_wide)


def test_trials_share_one_look_at_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def queue(jobs: int) -> dict[str, client.Queued]:
        looks.append(jobs)
        return {str(number): client.Queued("RUNNING", "n1") for number in range(jobs)}

    kept = tmp_path / ".queue.json"
    for jobs, age, looked in ((100, 0, 1), (100, 10, 1), (3, 40, 2), (3, 1, 2), (3, 3, 3)):
        monkeypatch.setattr(client, "queue", lambda jobs=jobs: queue(jobs))
        if kept.exists():
            os.utime(kept, (time.time() - age, time.time() - age))
        assert set(client.shared_queue(kept)) == set(map(str, range(jobs)))
        assert len(looks) == looked
    kept.write_text("{broken")
    assert len(client.shared_queue(kept)) == 3

"""`bigtrain submit` on a real Slurm cluster of two simulated nodes with two ranks each, over gloo.

However a job is interrupted, its run ends with the weights of one that was not: one folder, one MLflow run, every image
once. Most of it is slow; by default, one run is requeued and one request refused.
"""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from bigtrain.checkpoint import load_state
from bigtrain.core.presence import read_heartbeat
from bigtrain.tracking.events import read_events
from bigtrain.tracking.spool import read_metrics
from launch.slurm.job_log import JobLog
from tests.conftest import ROOT
from tests.integration.slurm_cluster import SlurmCluster, missing_programs, slurm_cluster
from tests.pairs import write_config, write_pairs

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(missing_programs()), reason="Slurm is not installed: run scripts/system-packages"),
]
BIGTRAIN = str(Path(sys.executable).parent / "bigtrain")
KIMG = 1.28
QUIET = [f"total_kimg={KIMG}", "eval.interval_kimg=0", "preview.interval_kimg=0", "checkpoint.interval_kimg=100"]
# On four ranks DDP's last bits differ after a resume, most likely because it sorts its buckets anew after a process's
# first step, and four numbers add up by their place in a bucket. One flat all-reduce always adds in the same order.
QUIET += [
    "strategy.kind=flat",
    "micro_batch=4",  # of a batch of 16: one for each of four ranks
    "snapshot.interval_kimg=0",
    "tracking.mlflow=false",
    "log.interval_kimg=0.16",
    "tracking.system_seconds=0.5",
    "health.features_kimg=0",
]
WIDE = ["--nodes=2", "--ranks-per-node=2", "--partition=low"]


class Site:
    """A cluster, a dataset and a place for runs."""

    def __init__(self, cluster: SlurmCluster, data: Path, root: Path) -> None:
        self.cluster, self.root = cluster, root
        self.config = [str(ROOT / "tests/tiny.yaml"), *QUIET, f"data.path={data}"]
        state = {"XDG_STATE_HOME": str(root / "state"), "XDG_CONFIG_HOME": str(root / "config"), "COLUMNS": "160"}
        self.environment = {**cluster.environment, **state, "OMP_NUM_THREADS": "1"}
        (root / "config" / "bigtrain").mkdir(parents=True)
        (root / "config" / "bigtrain" / "slurm.yaml").write_text("interface: lo\n")  # the nodes share this machine

    def bigtrain(self, *words: str, code: int = 0) -> str:
        done = subprocess.run([BIGTRAIN, *words], env=self.environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def submit(self, name: str, *words: str) -> str:
        """Hand a run in; return the job's number."""
        told = self.bigtrain("submit", *self.config, f"run_dir={self.root / name}", *words)
        return told.split()[1].removesuffix(":")

    def jobs(self, run: Path) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.bigtrain("jobs", str(run), "--json"))
        return found

    def wait(self, what: str, run: Path, condition: Callable[[], Any], *, seconds: float = 600) -> None:
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                said = "\n".join(path.read_text()[-3000:] for path in run.glob("slurm/job-*.out"))
                log = (run / "slurm/jobs.jsonl").read_text()
                queue = self.cluster.run("squeue", "--all").stdout
                pytest.fail(f"waited {seconds:g} s for {what}\n{queue}\n{log}\n{said}")
            time.sleep(0.2)

    def wait_until_it_trains(self, run: Path, *, after: int = 0) -> None:
        self.wait("training", run, lambda: read_heartbeat(run).get("samples_seen", 0) > after)

    def wait_for_the_end(self, run: Path) -> list[dict[str, Any]]:
        """Wait until a run's newest job has ended by itself; return the book."""
        self.wait("the end", run, lambda: book_of(run)[-1]["event"] == "ended")
        return book_of(run)


def book_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "slurm/jobs.jsonl").read_text().splitlines()]


def said(log: list[dict[str, Any]]) -> list[str]:
    return [f"{line['event']} {line.get('reason', '')}".strip() for line in log]


@pytest.fixture(scope="module")
def site(fashion: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("slurm")
    with slurm_cluster(root / "cluster") as cluster:
        yield Site(cluster, fashion, root)


@pytest.fixture(scope="module")
def straight(site: Site) -> Path:
    """A run on this machine alone that nothing disturbed."""
    folder = site.root / "straight"
    site.bigtrain("train", *site.config, f"run_dir={folder}", "--nproc=4")
    return folder


def assert_same_end(run: Path, other: Path, *, kimg: float = KIMG) -> None:
    """See that two runs have all their images, each once, and the same weights to the last bit."""
    one, two = (load_state(folder / "checkpoints" / f"kimg{kimg:010.3f}") for folder in (run, other))
    assert one["progress"] == two["progress"]
    for player in ("G", "D"):
        for name, value in one[player]["player"].items():
            assert torch.equal(value, two[player]["player"][name]), f"{player}.{name}"
    points = {name: read_metrics(folder)["progress/kimg"] for name, folder in (("one", run), ("two", other))}
    assert points["one"] == points["two"]


def test_an_impossible_request_is_refused_before_it_is_queued(site: Site) -> None:
    run = site.root / "impossible"
    told = site.bigtrain("submit", *site.config, f"run_dir={run}", "--nodes=4", "--partition=low", code=2)
    assert told.startswith("bigtrain: Slurm refuses: "), told
    assert "configuration is not available" in told
    assert len(told.splitlines()) == 1
    assert not run.exists()
    assert "impossible" not in site.cluster.run("squeue", "--all", "-h", "-o%j").stdout


def test_a_requeued_run_ends_as_if_nothing_had_been(site: Site, straight: Path) -> None:
    run = site.root / "requeued $(touch run-by-accident) 'q'"
    job = site.submit(run.name, *WIDE)
    site.wait_until_it_trains(run)
    site.cluster.run("scontrol", "requeue", job)
    refused = site.bigtrain("submit", *site.config, f"run_dir={run}", *WIDE, code=2)
    assert re.search(rf"job {job} is \w+ here; cancel it", refused)
    log = site.wait_for_the_end(run)
    assert said(log)[-1] == "ended complete"
    assert [event["event"] for event in read_events(run)] == ["start", "stopped", "resumed", "complete"]
    assert_same_end(run, straight)
    assert not [*site.root.rglob("run-by-accident"), *Path.cwd().glob("run-by-accident")]
    (shown,) = site.jobs(run)
    assert (shown["state"], shown["requeues"], shown["kimg"]) == ("COMPLETED", 1, KIMG)
    assert "resuming from" in site.bigtrain("logs", str(run), "--rank=0")
    assert f"bigtrain: job {job} ends: complete" in JobLog(run).output(job).read_text()
    assert {path.name for path in (run / "metrics").iterdir()} == {"node0.jsonl", "node1.jsonl"}, "a watch a node"


def mlflow_runs(root: Path) -> dict[str, tuple[str, int]]:
    """Return each MLflow run's status and the number of its points of one metric, by name."""
    with sqlite3.connect(root / "mlflow.db") as database:
        rows = database.execute(
            "select name, status, (select count(*) from metrics where key = 'progress/kimg' and run_uuid = r.run_uuid) "
            "from runs r"
        ).fetchall()
    assert len({name for name, *_ in rows}) == len(rows), "a run is there twice"
    return {name: (status, points) for name, status, points in rows}


def preempt(site: Site, job: str) -> None:
    more = ["--partition=high", "--nodes=2", "--ntasks-per-node=2", "--output=/dev/null", "--wrap=sleep 3"]
    assert site.cluster.run("sbatch", *more).returncode == 0


def lose_a_node(site: Site, job: str) -> None:
    site.cluster.kill("n2")
    site.wait("Slurm to notice", site.root, lambda: "down" in site.cluster.run("sinfo", "-hNplow", "-o%T").stdout)
    site.cluster.start("n2")


INTERRUPTIONS: dict[str, tuple[Callable[[Site, str], None], list[str], float]] = {
    "preempted": (preempt, ["--launch=srun"], KIMG),
    "lost-a-node": (lose_a_node, [], 12 * KIMG),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", INTERRUPTIONS)
def test_an_interrupted_run_goes_on_to_its_end(site: Site, straight: Path, name: str) -> None:
    """Preempted by a job of higher priority; one node's slurmd killed."""
    interrupt, options, kimg = INTERRUPTIONS[name]
    run = site.root / name / "run"
    overrides = [f"total_kimg={kimg}", "tracking.mlflow=true"]
    job = site.submit(f"{name}/run", *overrides, *WIDE, *options)
    site.wait_until_it_trains(run)
    interrupt(site, job)
    log = site.wait_for_the_end(run)
    assert said(log)[-1] == "ended complete"
    assert sum(line["event"] == "started" for line in log) == 2
    if kimg != KIMG:
        straight = site.root / f"straight-{name}"
        site.bigtrain("train", *site.config, f"total_kimg={kimg}", f"run_dir={straight}", "--nproc=4")
    assert_same_end(run, straight, kimg=kimg)
    assert mlflow_runs(site.root / name) == {"run": ("FINISHED", round(kimg / 0.16))}


@pytest.mark.slow
def test_the_time_limit_is_no_end(site: Site) -> None:
    run, profile = site.root / "limited", site.root / "profile.yaml"
    profile.write_text("save_seconds: 20\n")
    site.submit("limited", f"total_kimg={8 * KIMG}", *WIDE, "--launch=srun", "--time=2", f"--profile={profile}")
    log = site.wait_for_the_end(run)
    assert "requeued stopped and saved" in said(log)
    assert said(log)[-1] == "ended complete"
    lives = [event for event in read_events(run) if event["event"] in ("stopped", "resumed")]
    assert all(lives[place]["kimg"] == lives[place + 1]["kimg"] for place in range(0, len(lives), 2)), "nothing again"
    assert read_events(run)[-1]["kimg"] == 8 * KIMG


@pytest.mark.slow
def test_bigtrain_cancel_lets_a_run_save(site: Site, straight: Path) -> None:
    run = site.root / "cancelled"
    site.submit("cancelled", *WIDE, "--launch=srun")
    site.wait_until_it_trains(run)
    assert "saves and ends" in site.bigtrain("cancel", str(run))
    assert said(site.wait_for_the_end(run))[-1] == "ended cancelled"
    assert site.jobs(run)[-1]["state"] == "CANCELLED"
    site.submit("cancelled", *WIDE)  # by another launcher
    site.wait("a second job", run, lambda: book_of(run)[-1]["event"] != "submitted")
    assert said(site.wait_for_the_end(run))[-1] == "ended complete"
    assert_same_end(run, straight)


@pytest.mark.slow
def test_a_cancelled_job_is_saved_and_the_next_in_the_chain_goes_on(site: Site, straight: Path) -> None:
    run = site.root / "chained"
    first = site.submit("chained", *WIDE)
    site.submit("chained", *WIDE, f"--dependency=afterany:{first}")
    site.wait_until_it_trains(run)
    site.cluster.run("scancel", first)
    log = site.wait_for_the_end(run)
    assert said(log)[-1] == "ended complete"
    assert [line["event"] for line in log if line["job"] == first] == ["submitted", "started", "left"]
    assert [event["event"] for event in read_events(run)] == ["start", "stopped", "resumed", "complete"]
    assert_same_end(run, straight)


@pytest.mark.slow
def test_an_array_is_a_run_a_seed(site: Site) -> None:
    array = site.root / "array"
    overrides = ["tracking.mlflow=true"]
    site.submit("array", *overrides, "--nodes=1", "--ranks-per-node=2", "--partition=low", "--array=0-1")
    for seed in range(2):
        assert said(site.wait_for_the_end(array / f"seed{seed}"))[-1] == "ended complete"
    assert [job["state"] for job in site.jobs(array)] == ["COMPLETED"] * 2
    straight = site.root / "seeds" / "straight"
    site.bigtrain("train", *site.config, f"run_dir={straight}", "seed=1", "--nproc=2")
    assert_same_end(array / "seed1", straight)
    runs = mlflow_runs(array)
    assert {name for name in runs if name.startswith("seed")} == {"seed0", "seed1"}
    assert "array" in runs, "the seeds are not below one run"


@pytest.mark.slow
def test_a_crash_is_not_requeued_and_its_cause_is_told(site: Site, fashion: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(fashion, tmp_path / "damaged")
    for shard in damaged.glob("*.tar"):
        content = bytearray(shard.read_bytes())
        content[len(content) // 2 :: 4096] = b"\xff" * len(content[len(content) // 2 :: 4096])
        shard.write_bytes(content)
    run = site.root / "crashed"
    site.submit("crashed", f"data.path={damaged}", "data.on_corrupt=fail", *WIDE)
    log = site.wait_for_the_end(run)
    assert [line["event"] for line in log] == ["submitted", "started", "ended"]
    assert "exit code 1" in said(log)[-1]
    status = json.loads(site.bigtrain("status", str(run), "--json"))
    assert status["state"] == "failed"
    assert "DamageError" in status["failure"]["error"]
    assert f"rank {status['failure']['rank']} on " in site.bigtrain("status", str(run))
    assert site.jobs(run)[0]["state"] == "FAILED"


@pytest.mark.slow
def test_a_translation_trains_on_two_nodes(site: Site) -> None:
    """As any run does: requeued on its way, complete in the end, scored against its targets."""
    root = site.root / "translation"
    root.mkdir()
    config = write_config(
        root / "pix2pix.yaml", write_pairs(root / "pairs"), root / "run", total_kimg=0.64, micro_batch=2
    )
    job = site.bigtrain("submit", str(config), *WIDE).split()[1].removesuffix(":")
    site.wait_until_it_trains(root / "run")
    site.cluster.run("scontrol", "requeue", job)
    assert said(site.wait_for_the_end(root / "run"))[-1] == "ended complete"
    assert read_metrics(root / "run")["eval/psnr"][-1][0] == 0.64
    assert list((root / "run" / "images" / "samples").glob("target-*.png"))


@pytest.mark.slow
def test_a_set_is_prepared_in_parts_and_is_the_one_that_one_machine_makes(site: Site) -> None:
    source, dest = site.root / "pictures", site.root / "set of 3 parts"
    source.mkdir()
    for number in range(40):
        Image.new("RGB", (24, 16), (number, 6 * number, 255 - number)).save(source / f"{number}.png")
    options = ["--resolution=16", "--shard-samples=5"]
    told = site.bigtrain("data", "prepare", str(source), str(site.root / "alone"), *options)
    site.bigtrain("submit", "--prepare=3", "--partition=low", "--", str(source), str(dest), *options)
    made = dest / "manifest.json"
    site.wait("the set", dest.with_name(f"{dest.name}.slurm"), made.exists, seconds=200)
    digest = re.search(r"digest: (\w+)", told)
    assert digest and json.loads(site.bigtrain("data", "info", str(dest), "--json"))["digest"].startswith(digest[1])

"""Real sweeps with Ray: to the end, stopped, killed, resumed; and nothing is left of them."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from ruamel.yaml import YAML

from bigtrain.checkpoint import load_state
from bigtrain.config import load_training
from bigtrain.sweep.event_log import SweepEventLog, read_events
from bigtrain.tracking.spool import read_metrics
from tests.conftest import ROOT
from tests.integration.slurm_cluster import missing_programs, slurm_cluster

pytestmark = pytest.mark.timeout(1200)
BIGTRAIN = str(Path(sys.executable).parent / "bigtrain")
SHORT = {
    "log.interval_kimg": 0.08,
    "preview.interval_kimg": 0,
    "eval.interval_kimg": 0.16,
    "checkpoint.interval_kimg": 0.16,
    "snapshot.interval_kimg": 0,
    "tracking.mlflow": False,
    "tracking.system_seconds": 0,
}


def write(folder: Path, data: Path, **changes: Any) -> Path:
    """Leave the YAML file of a sweep of runs that last seconds."""
    overrides = {**SHORT, "data.path": str(data), **changes.pop("overrides", {})}
    sweep = {
        "base": str(ROOT / "tests" / "tiny.yaml"),
        "overrides": overrides,
        "sweep_dir": str(folder / "sweep"),
        **changes,
    }
    path = folder / "sweep.yaml"
    YAML(typ="safe", pure=True).dump(sweep, path)
    return path


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([BIGTRAIN, "tune", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def family(process: int) -> dict[int, psutil.Process]:
    """All that a process has started: Ray's servers, trials, agents, ranks."""
    try:
        return {one.pid: one for one in psutil.Process(process).children(recursive=True)}
    except psutil.NoSuchProcess:
        return {}


def wait_until(condition: Any, process: subprocess.Popen[str], seen: dict[int, psutil.Process]) -> None:
    """Wait for something in a sweep, and remember every process that it starts meanwhile."""
    deadline = time.monotonic() + 900
    while not condition():
        seen.update(family(process.pid))
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    seen.update(family(process.pid))


def left_of(seen: dict[int, psutil.Process]) -> list[psutil.Process]:
    """Return which of some processes are still there, after a while."""
    return psutil.wait_procs(list(seen.values()), timeout=240)[1]


@pytest.mark.slow
def test_a_sweep_runs_is_stopped_and_goes_on(tmp_path: Path, fashion: Path) -> None:
    """Two trials: a rank of the first is killed, Ctrl-C during the second, then --resume; no process is left."""
    path = write(
        tmp_path,
        fashion,
        overrides={"total_kimg": 0.16, "strategy.kind": "single", "checkpoint.interval_kimg": 0.032},
        space={
            "optim.G.lr.value": {"kind": "choice", "values": [1.0e-4]},
            "optim.G.beta1": {"kind": "choice", "values": [0.0, 0.5]},
        },
        budget={"trials": 2},
        trial={"cpus": 1, "at_once": 1},
    )
    folder, seen = tmp_path / "sweep", dict[int, psutil.Process]()
    first = start(str(path))
    wait_until(lambda: list((folder / "trial-000" / "checkpoints").glob("kimg*[0-9]")), first, seen)
    psutil.Process(json.loads((folder / "trial-000" / "run.lock").read_text())["pid"]).kill()
    wait_until(lambda: (folder / "trial-001" / "metrics.jsonl").is_file(), first, seen)
    first.send_signal(signal.SIGINT)
    told, _ = first.communicate()
    assert first.returncode == 3, told
    assert f"resume it with: bigtrain tune --resume {folder}" in told
    assert left_of(seen) == []
    assert SweepEventLog(folder).trials[0].state == "complete"  # it was started again
    begun = _begun(folder / "trial-000")
    assert begun[0] == "start"
    assert begun[1].startswith("checkpoints/kimg000000.0")

    again = subprocess.run([BIGTRAIN, "tune", "--resume", str(folder)], capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["complete", "complete"]
    assert float(rows[1]["low"]) < float(rows[1]["fid"]) < float(rows[1]["high"])
    assert _begun(folder / "trial-000") == begun  # what was complete is not trained again
    winner = load_training(folder / "winner.yaml")
    assert winner.total_kimg == 0.16
    assert not (folder / "ray").exists()


@pytest.mark.slow
def test_pbt_survives_its_driver(tmp_path: Path, fashion: Path) -> None:
    """Four trials, three perturbations, SIGKILL to the driver in the middle: the lineage is right."""
    path = write(
        tmp_path,
        fashion,
        overrides={"total_kimg": 0.64, "strategy.kind": "single", "checkpoint.keep": 20, "eval.samples": 200},
        space={
            "optim.G.lr.value": {"kind": "log_uniform", "low": 1.0e-5, "high": 4.0e-3},
            "optim.D.lr.value": {"kind": "ratio", "of": "optim.G.lr.value", "low": 0.5, "high": 2.0},
            "objective.terms.r1.gamma": {"kind": "log_uniform", "low": 0.01, "high": 1.0},
        },
        scheduler={"kind": "pbt", "interval_kimg": 0.16, "evaluations": 1},
        budget={"trials": 4},
        trial={"cpus": 1},
    )
    folder, seen = tmp_path / "sweep", dict[int, psutil.Process]()
    first = start(str(path))
    wait_until(lambda: any(event["event"] == "generation" for event in read_events(folder)), first, seen)
    reached = {run.name for run in folder.glob("trial-*/")}
    wait_until(lambda: any(_beats(folder / name) > 160 for name in reached), first, seen)
    first.kill()
    first.communicate()
    assert left_of(seen) == []

    again = start("--resume", str(folder))
    told, _ = again.communicate()
    assert again.returncode == 0, told
    log = SweepEventLog(folder)
    assert [event["samples_seen"] for event in log.generations] == [160, 320, 480]
    assert {trial.state for trial in log.trials.values()} == {"complete"}
    moves = [(event["samples_seen"], move) for event in log.generations for move in event["moves"]]
    assert moves, "no difference beyond the noise: nothing was proved"
    points = {number: dict(trial.point) for number, trial in log.trials.items()}
    for at, move in moves:
        donor, copy = (load_state(_checkpoint(folder, move[who], at)) for who in ("donor", "number"))
        for part in ("G", "D", "ema.G"):
            assert_equal(donor[part], copy[part])
        after = [
            value for kimg, value in read_metrics(folder / f"trial-{move['number']:03}")["lr/G"] if kimg > at / 1000
        ]
        later = [one for place, one in moves if one["number"] == move["number"] and place > at]
        if not later:  # a schedule takes it down to 0 from half of the run on
            assert max(after) <= move["point"]["optim.G.lr.value"] * 1.001
            assert points[move["number"]] == move["point"]
        begun = _begun(folder / f"trial-{move['number']:03}")
        assert f"checkpoints/kimg{at / 1000:010.3f}" in begun
    for number in log.trials:  # nothing was trained again from before a boundary that it had passed
        lost = [event.get("lost_kimg", 0) for event in _events(folder / f"trial-{number:03}")]
        assert max(lost) <= 0.16
    print(json.dumps([move for _, move in moves], indent=1))


@pytest.mark.slow
def test_hyperband_pauses_trials_and_survives_its_driver(tmp_path: Path, fashion: Path) -> None:
    """A bracket of 2 trials, and one of 3 that wait for each other at 1.6 kimg; SIGKILL to the driver, --resume."""
    path = write(
        tmp_path,
        fashion,
        overrides={
            "total_kimg": 3.2,
            "strategy.kind": "single",
            "eval.interval_kimg": 1.6,
            "checkpoint.interval_kimg": 0.8,
        },
        space={"optim.G.lr.value": {"kind": "log_uniform", "low": 1.0e-5, "high": 4.0e-3}},
        scheduler={"kind": "ray", "name": "hyperband"},
        budget={"trials": 5},
        trial={"cpus": 1},
    )
    folder, seen = tmp_path / "sweep", dict[int, psutil.Process]()
    first = start(str(path))
    wait_until(lambda: any(e["event"] == "score" and e["number"] == 3 for e in read_events(folder)), first, seen)
    first.kill()
    first.communicate()
    assert left_of(seen) == []
    again = start("--resume", str(folder))
    told, _ = again.communicate()
    assert again.returncode == 0, told
    trials = SweepEventLog(folder).trials
    assert [trials[number].state for number in (0, 1)] == ["complete"] * 2
    assert sorted(trials[number].state for number in (2, 3, 4)) == ["complete", "stopped", "stopped"]
    best = min((2, 3, 4), key=lambda number: trials[number].scores[1600].value)
    for number in (2, 3, 4):
        assert (trials[number].state == "complete") == (number == best)
        if number != best:
            assert max(trials[number].scores) == 1600
            assert "hyperband stops it" in trials[number].why


@pytest.mark.slow  # it needs tests/slow-requirements.txt
def test_bohb_searches_with_its_hyperband(tmp_path: Path, fashion: Path) -> None:
    """A bracket of 3 trials, one of which continues after 1.6 kimg; then one of 2 that are trained to the end."""
    path = write(
        tmp_path,
        fashion,
        overrides={
            "total_kimg": 3.2,
            "strategy.kind": "single",
            "eval.interval_kimg": 1.6,
            "checkpoint.interval_kimg": 0.8,
        },
        space={"optim.G.lr.value": {"kind": "log_uniform", "low": 1.0e-5, "high": 4.0e-3}},
        scheduler={"kind": "ray", "name": "hb_bohb"},
        searcher={"kind": "ray", "name": "bohb"},
        budget={"trials": 5},
        trial={"cpus": 1},
    )
    sweep = start(str(path))
    told, _ = sweep.communicate()
    assert sweep.returncode == 0, told
    trials = SweepEventLog(tmp_path / "sweep").trials
    assert sorted(trials[number].state for number in (0, 1, 2)) == ["complete", "stopped", "stopped"]
    assert [trials[number].state for number in (3, 4)] == ["complete"] * 2
    assert "Warning" not in told  # of BOHB's libraries


@pytest.mark.slow
def test_a_tuner_of_ones_own_copies_weights_by_rays_pbt(tmp_path: Path, fashion: Path) -> None:
    """A program of its own, as users write it: Ray leaves warnings and processes in the one that starts it."""
    overrides = {"data.path": str(fashion), "tracking.mlflow": False, "total_kimg": 0.32}
    overrides |= dict.fromkeys(("eval.interval_kimg", "checkpoint.interval_kimg"), 0.16)
    overrides |= dict.fromkeys(("preview.interval_kimg", "snapshot.interval_kimg"), 0.32)
    program = f"""
import ray
from ray import tune
from bigtrain.sweep import trainable

ray.init(num_cpus=2, object_store_memory=100 * 2**20, include_dashboard=False, log_to_driver=False)
run = trainable({str(ROOT / "tests" / "tiny.yaml")!r}, {str(tmp_path / "runs")!r}, overrides={overrides!r})
pbt = tune.schedulers.PopulationBasedTraining(
    time_attr="kimg", perturbation_interval=0.16, synch=True, quantile_fraction=0.5,
    hyperparam_mutations={{"optim.G.lr": tune.loguniform(1e-4, 1e-2)}},
)
found = tune.Tuner(
    tune.with_resources(run, {{"cpu": 1}}),
    param_space={{"optim.G.lr": tune.grid_search([1e-3, 1e-7])}},
    tune_config=tune.TuneConfig(metric="score", mode="min", scheduler=pbt),
    run_config=tune.RunConfig(name="t", storage_path={str(tmp_path / "ray")!r}, verbose=0),
).fit()
assert not found.errors, found.errors
print(found.get_best_result().metrics["kimg"], sorted(one.config["optim.G.lr"] for one in found)[0])
"""
    quiet = {"RAY_AUTH_MODE": "disabled", "RAY_memory_monitor_refresh_ms": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **quiet}, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    kimg, least = map(float, done.stdout.split()[-2:])
    assert kimg == 0.32
    assert least > 1e-7  # the trial that learnt nothing went on from the other one


@pytest.mark.slow
def test_the_lines_of_the_how_to_run(tmp_path: Path, fashion: Path) -> None:
    """The program in docs/how-to/sweeps.md, with a smaller run."""
    page = (ROOT / "docs" / "how-to" / "sweeps.md").read_text()
    (program,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "trainable(" in block]
    overrides = {**SHORT, "data.path": str(fashion), "total_kimg": 0.32, "strategy.kind": "single"}
    for before, after in (
        ('"configs/quickstart.yaml"', repr(str(ROOT / "tests" / "tiny.yaml"))),
        ('"runs/tuned"', repr(str(tmp_path / "runs"))),
        ('{"total_kimg": 40}', repr(overrides)),
        ("nproc=2", "nproc=1"),
        ('{"cpu": 2}', '{"cpu": 1}'),
        ("num_samples=8", "num_samples=2"),
    ):
        assert before in program
        program = program.replace(before, after)
    quiet = {"RAY_AUTH_MODE": "disabled", "RAY_memory_monitor_refresh_ms": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    environment = {**os.environ, **quiet, "HOME": str(tmp_path)}  # in which Ray leaves its results
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "optim.G.lr" in done.stdout
    assert len(list((tmp_path / "runs").glob("*/metrics.jsonl"))) == 2


@pytest.mark.slow
def test_mlflow_shows_the_sweep(tmp_path: Path, fashion: Path) -> None:
    """One parent run with the best score so far, table, charts, winners' grids; a child a trial; the alias."""
    path = write(
        tmp_path,
        fashion,
        overrides={
            "total_kimg": 0.16,
            "strategy.kind": "single",
            "preview.interval_kimg": 0.16,
            "tracking.mlflow": True,
            "tracking.models": True,
            "tracking.flush_seconds": 600,
        },
        space={"optim.G.beta1": {"kind": "choice", "values": [0.0, 0.5]}},
        budget={"trials": 2},
        trial={"cpus": 1},
        champion=True,
    )
    done = subprocess.run([BIGTRAIN, "tune", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "sweep"
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    (parent,) = [run for run in runs if run not in children]
    assert len(children) == 2
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.info.run_name for run in children} == {"trial-000", "trial-001"}
    assert all(client.list_artifacts(run.info.run_id, "images") for run in children)
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"sweep.html", "results.csv", "winner.yaml", "trials.json", "winners"} <= names
    points = client.get_metric_history(parent.info.run_id, "sweep/best_fid")
    assert [point.value for point in points] == sorted((point.value for point in points), reverse=True)
    assert parent.data.tags["sweep.trials"] == "2 of 2 ended"
    assert parent.info.end_time > max(child.info.start_time for child in children)
    (model,) = client.search_registered_models()
    champion = client.get_model_version_by_alias(model.name, "champion")
    winner = load_training(folder / "winner.yaml")
    best = next(run for run in children if run.info.run_id == champion.run_id)
    assert float(best.data.params["optim.G.beta1"]) == winner.optim["G"].beta1.value

    again = subprocess.run(
        [sys.executable, "-m", "bigtrain.sweep.publish", str(folder)], capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert len(client.get_metric_history(parent.info.run_id, "sweep/best_fid")) == len(points)


@pytest.mark.slow
def test_ray_spans_the_nodes_of_a_slurm_job(tmp_path: Path, fashion: Path) -> None:
    """`slurm/sweep.sbatch` on two simulated nodes: a trial on each, a table, and nothing left."""
    if missing_programs():
        pytest.skip(f"Slurm is not installed ({', '.join(missing_programs())}): run scripts/system-packages")
    short = Path(tempfile.mkdtemp(prefix="bt"))
    path = write(
        tmp_path,
        fashion,
        overrides={"total_kimg": 0.16, "strategy.kind": "single"},
        space={"optim.G.beta1": {"kind": "choice", "values": [0.0, 0.5]}},
        budget={"trials": 2},
        trial={"cpus": "node"},
    )
    before = {process.pid for process in psutil.process_iter()}
    with slurm_cluster(short / "slurm") as cluster:
        cluster.environment.update(BIGTRAIN_BIN=str(Path(sys.executable).parent), BIGTRAIN_SHARED=str(tmp_path))
        output = tmp_path / "job.out"
        options = ["--parsable", "--nodes=2", "--exclusive", f"--output={output}", f"--chdir={ROOT}"]
        queued = cluster.run("sbatch", *options, str(ROOT / "slurm" / "sweep.sbatch"), str(path))
        assert queued.returncode == 0, queued.stderr
        deadline = time.monotonic() + 900
        while cluster.run("squeue", "-h").stdout.strip() and time.monotonic() < deadline:
            time.sleep(1)
        told = output.read_text()
        log = SweepEventLog(tmp_path / "sweep")
        assert {trial.state for trial in log.trials.values()} == {"complete"}, told
        assert {trial.host for trial in log.trials.values()} == {"n1", "n2"}
        assert "winner" in told
    assert not list(tmp_path.glob(".ray-token*"))
    names = ("raylet", "gcs_server", "bigtrain", "launch.agent")
    left = [one for one in psutil.process_iter(["name", "cmdline", "status"]) if one.pid not in before]
    left = [
        one for one in left if one.info["status"] != psutil.STATUS_ZOMBIE
    ]  # dead, and for a container's init to bury
    ours = [one for one in left if str(tmp_path) in " ".join(one.info["cmdline"] or []) or one.info["name"] in names]
    assert ours == []
    shutil.rmtree(short, ignore_errors=True)


@pytest.mark.slow
def test_trials_are_jobs_where_slurm_is_the_backend(
    tmp_path: Path, fashion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two trials as jobs of two nodes each; the driver is killed and takes the job that is alive over."""
    if missing_programs():
        pytest.skip(f"Slurm is not installed ({', '.join(missing_programs())}): run scripts/system-packages")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    short = Path(tempfile.mkdtemp(prefix="bt"))
    path = write(
        tmp_path,
        fashion,
        overrides={"total_kimg": 0.16},
        space={"optim.G.beta1": {"kind": "choice", "values": [0.0, 0.5]}},
        budget={"trials": 2},
        trial={"nproc": 1, "at_once": 1},
        backend={"kind": "slurm", "settings": {"nodes": 2, "cpus_per_task": 1, "interface": "lo"}},
    )
    folder, seen = tmp_path / "sweep", dict[int, psutil.Process]()
    with slurm_cluster(short / "slurm") as cluster:
        for name in ("SLURM_CONF", "PATH"):
            monkeypatch.setenv(name, cluster.environment[name])
        first = start(str(path))
        wait_until(lambda: cluster.run("squeue", "-h").stdout.strip(), first, seen)
        first.kill()
        first.communicate()
        assert left_of(seen) == []
        again = start("--resume", str(folder))
        told, _ = again.communicate()
        assert again.returncode == 0, told
        assert {trial.state for trial in SweepEventLog(folder).trials.values()} == {"complete"}
        assert not cluster.run("squeue", "-h").stdout.strip()
    for name in ("trial-000", "trial-001"):
        book = [json.loads(line) for line in (folder / name / "slurm" / "jobs.jsonl").read_text().splitlines()]
        assert [line["event"] for line in book] == ["submitted", "started", "ended"]
        (begun,) = (event for event in _events(folder / name) if event["event"] == "start")
        assert begun["world_size"] == 2
    shutil.rmtree(short, ignore_errors=True)


def _beats(run: Path) -> int:
    try:
        return int(json.loads((run / "heartbeat.json").read_text())["samples_seen"])
    except (OSError, ValueError):
        return 0


def _begun(run: Path) -> list[str]:
    """Return what a run began with each time: `start`, or a checkpoint."""
    events = [event for event in _events(run) if event["event"] in ("start", "resumed")]
    return [event.get("checkpoint", "start") for event in events]


def _checkpoint(folder: Path, number: int, samples_seen: int) -> Path:
    return folder / f"trial-{number:03}" / "checkpoints" / f"kimg{samples_seen / 1000:010.3f}"


def _events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def assert_equal(one: Any, other: Any) -> None:
    """Compare states bit for bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let child processes find this checkout."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))

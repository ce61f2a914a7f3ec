"""The batch script: what is in it, that nothing in it is run by accident, and how it judges the end of a job."""

import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bigtrain.core.config import ConfigError
from launch.slurm.script import JobRequest, render
from launch.slurm.settings import ContainerConfig, SlurmConfig

EVIL = "$(touch run-by-accident) `touch run-by-accident` '; touch run-by-accident; ' \" \\ & | > <"


def job(run: Path, **facts: object) -> JobRequest:
    return JobRequest(**{"name": "ffhq", "run": run, "here": Path("/work"), "data": ("/data/ffhq",), **facts})  # type: ignore[arg-type]


def test_what_is_asked_for() -> None:
    settings = SlurmConfig(
        nodes=4, gpus_per_node=8, gpu_type="h100", cpus_per_task=12, time="24:00:00", sbatch=("--exclusive",)
    )
    text = render(settings, job(Path("/runs/ffhq")))
    asked = dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in text.splitlines() if "#SBATCH" in line)
    assert asked["gpus-per-node"] == "h100:8"
    assert (asked["ntasks-per-node"], asked["cpus-per-task"]) == ("1", "96"), "torchrun's agent has all ranks' cores"
    assert asked["signal"] == "B:USR1@120"
    assert asked["output"] == "/runs/ffhq/slurm/job-%j.out"
    assert {"requeue", "exclusive"} <= asked.keys()
    text = render(settings.model_copy(update={"launch": "srun", "array": "0-3"}), job(Path("/runs/100%")))
    assert "#SBATCH --ntasks-per-node=8\n#SBATCH --cpus-per-task=12\n" in text
    assert "#SBATCH --output=/runs/100%%/seed%a/slurm/job-%A_%a.out" in text
    assert "RUN=/runs/100%/seed$SLURM_ARRAY_TASK_ID\n" in text


@pytest.mark.parametrize(("gpus", "cores"), [(8, "64"), (0, "1")])
def test_a_rank_with_a_gpu_has_more_than_one_core(gpus: int, cores: str) -> None:
    """One for launching, decoding and NCCL together starved the GPU."""
    text = render(SlurmConfig(gpus_per_node=gpus), job(Path("/runs/x")))
    assert f"#SBATCH --cpus-per-task={cores}\n" in text


def test_containers() -> None:
    settings = SlurmConfig(
        gpus_per_node=8, container=ContainerConfig(image="nvcr.io#nvidia/pytorch", mounts=("/a:/b",))
    )
    text = render(settings, job(Path("/runs/x")))
    assert "--container-image=nvcr.io#nvidia/pytorch" in text.replace("'", "")
    assert "--container-mounts=/data/ffhq:/data/ffhq,/runs/x:/runs/x,/work:/work,/a:/b" in text
    assert "\n    python -m launch.slurm.task" in text
    container = ContainerConfig(image="train.sif", runtime="apptainer")
    text = render(settings.model_copy(update={"container": container}), job(Path("/runs/x")))
    assert "apptainer exec --nv --bind /data/ffhq:/data/ffhq" in text
    gres = SlurmConfig(container=container, sbatch=("--gres=lscratch:10,gpu:h100:8(S:0)",))
    assert "apptainer exec --nv" in render(gres, job(Path("/runs/x")))
    assert gres.ranks == 8, "GPUs that a site takes as --gres alone are GPUs"


@pytest.mark.parametrize("path", ["/data/a:b", "/data/a,/etc:/etc"])
def test_a_container_mounts_what_is_named_and_nothing_else(path: str) -> None:
    """`,` and `:` divide mounts: a folder of this name would mount `/etc`, or be mounted elsewhere."""
    for runtime in ("pyxis", "apptainer"):
        container = ContainerConfig(image="a.sif", runtime=runtime)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="a container cannot mount a folder with"):
            render(SlurmConfig(container=container), job(Path("/runs/x"), data=(path,)))
    with pytest.raises(ValueError, match="write OUTSIDE:INSIDE"):
        SlurmConfig(container=ContainerConfig(image="a.sif", mounts=("/data:/data,/etc:/etc",)))


def test_no_value_is_ever_run(tmp_path: Path) -> None:
    every = dict.fromkeys(("partition", "account", "qos", "constraint", "mem", "gpu_type", "dependency"), EVIL)
    every |= dict.fromkeys(("conda", "python", "interface", "stage", "env_file"), EVIL)
    settings = SlurmConfig(
        **every,  # type: ignore[arg-type]
        gpus_per_node=1,
        modules=(EVIL,),
        env={"A": EVIL},
        sbatch=(f"--gres={EVIL}",),
        container=ContainerConfig(image=EVIL, mounts=(f"{EVIL}:{EVIL}",)),
    )
    text = render(settings, job(tmp_path / EVIL.replace("\\", ""), name=EVIL, data=EVIL))
    end(text, tmp_path, code=0)
    assert "#SBATCH --partition='$(touch" in text
    assert not list(tmp_path.rglob("run-by-accident"))
    with pytest.raises(ConfigError, match="cannot contain line breaks"):
        render(SlurmConfig(partition="a\n#SBATCH --x"), job(tmp_path))
    with pytest.raises(ConfigError, match="a backslash in its path"):
        render(SlurmConfig(), job(tmp_path / "a\\b"))
    with pytest.raises(ConfigError, match="write an option of sbatch"):
        render(SlurmConfig(sbatch=("touch x",)), job(tmp_path))


STUBS = {
    # The step: it waits for a signal where it is told to, leaves what ranks leave, and ends.
    "srun": """
        case "$*" in *--overlap*) exit ${NODES_ANSWER:-0};; esac
        [ -z "$FAILED" ] || mkdir -p "$RUN_FOLDER/failures"
        [ -z "$FAILED" ] || { sleep 0.05; echo "$FAILED" > "$RUN_FOLDER/failures/rank-0.json"; }
        [ -z "$STOPPED" ] || echo "$STOPPED" > "$RUN_FOLDER/stopped.json"
        exit $CODE""",
    "squeue": 'echo "Welcome to the site"; echo ------; echo "${STATE:-RUNNING}"',
    "scontrol": """
        case "$*" in
        *hostnames*) echo 'Welcome to the site'; echo ------; echo n1;;
        *oneliner*) echo "NodeName=n1 NodeAddr=127.0.0.1 Port=1";;
        requeue*) echo "requeue $2" >> "$CALLS"; kill -TERM $PPID;;
        esac""",
    "scancel": 'echo "scancel $*" >> "$CALLS"',
    "module": "true",
    "conda": "echo /nowhere",
}


def end(text: str, folder: Path, *, code: int, life: int = 0, **facts: str) -> tuple[int, str, str]:
    """Run a batch script with stand-ins for Slurm's commands (the real ones are in tests/integration/test_slurm.py).

    Returns:
        Exit code, last event of the book with its reason, and what the script asked Slurm for.
    """
    run = next(iter(re.findall(r"^RUN=(.*)$", text, re.MULTILINE)))
    run = subprocess.run(["bash", "-c", f"printf %s {run}"], capture_output=True, text=True).stdout
    bin_ = folder / "bin"
    bin_.mkdir(parents=True, exist_ok=True)
    for name, body in STUBS.items():
        (bin_ / name).write_text(f"#!/bin/bash\n{body}\n")
        (bin_ / name).chmod(0o755)
    book = Path(run) / "slurm"
    book.mkdir(parents=True, exist_ok=True)
    script, calls = folder / "script", folder / "calls"
    script.write_text(text)
    place = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1", "SLURM_NNODES": "1", "SLURM_RESTART_COUNT": str(life)}
    place |= {"PATH": f"{bin_}:{os.environ['PATH']}", "CALLS": str(calls), "CODE": str(code), "RUN_FOLDER": run}
    done = subprocess.run(
        ["bash", str(script)], env={**os.environ, **place, **facts}, cwd=folder, capture_output=True, timeout=60
    )
    last = json.loads((book / "jobs.jsonl").read_text().splitlines()[-1])
    return done.returncode, f"{last['event']}: {last['reason']}", calls.read_text() if calls.is_file() else ""


SAVED = '{"signal": "SIGTERM", "samples_seen": 640, "by_signal": true}'
COLLAPSED = '{"signal": "mode collapse", "samples_seen": 640, "by_signal": false}'
LOST, OWN = '{"rank": 0, "lost": true}', '{"rank": 0, "lost": false}'
ENDINGS = {
    "complete": ({"code": 0}, 0, "ended: complete", ""),
    "crash": ({"code": 1}, 1, "ended: failed with exit code 1", ""),
    "mistake": ({"code": 2}, 2, "ended: a mistake in the config or the data", ""),
    "saved": ({"code": 3, "STOPPED": SAVED}, 0, "requeued: stopped and saved", "requeue 7\n"),
    "saved under torchrun": ({"code": 143, "STOPPED": SAVED}, 0, "requeued: stopped and saved", "requeue 7\n"),
    "collapse": ({"code": 3, "STOPPED": COLLAPSED}, 3, "ended: stopped by the run itself", ""),
    "hung": ({"code": 4}, 0, "requeued: hung", "requeue 7\n"),
    "too early": ({"code": 143}, 0, "requeued: stopped before training began", "requeue 7\n"),
    "node gone": ({"code": 1, "NODES_ANSWER": "1"}, 0, "requeued: a node does not answer", "requeue 7\n"),
    "link gone": ({"code": 1, "FAILED": LOST}, 0, "requeued: the ranks lost each other", "requeue 7\n"),
    "own fault": ({"code": 1, "FAILED": OWN}, 1, "ended: failed with exit code 1", ""),
    "aborted": (
        {"code": 134},
        0,
        "requeued: a rank was aborted, as NCCL does that loses another",
        "requeue 7\n",
    ),
    "aborted for a reason": ({"code": 134, "FAILED": OWN}, 134, "ended: failed with exit code 134", ""),
    "being signalled": (
        {"code": 3, "STOPPED": SAVED, "STATE": "SIGNALING"},
        0,
        "requeued: stopped and saved",
        "requeue 7\n",
    ),
    "Slurm's own": ({"code": 3, "STOPPED": SAVED, "STATE": "COMPLETING"}, 3, "left: COMPLETING", ""),
}


def test_only_what_can_go_on_is_requeued(tmp_path: Path) -> None:
    def run(name: str) -> tuple[int, str, str]:
        folder = tmp_path / name
        return end(render(SlurmConfig(), job(folder / "run")), folder, **ENDINGS[name][0])  # type: ignore[arg-type]

    with ThreadPoolExecutor(4) as several:
        for name, found in zip(ENDINGS, several.map(run, ENDINGS), strict=True):
            assert found == ENDINGS[name][1:], name


def test_hundreds_of_preemptions_do_not_end_a_run(tmp_path: Path) -> None:
    book = tmp_path / "run/slurm"
    book.mkdir(parents=True)
    (book / "lives-7").write_text("".join(f"kimg{life}\n" for life in range(300)))
    asked = {"folder": tmp_path, "code": 3, "life": 300, "STOPPED": SAVED}
    assert end(render(SlurmConfig(), job(tmp_path / "run")), **asked)[1] == "requeued: stopped and saved"
    text = render(SlurmConfig(max_requeues=100), job(tmp_path / "run"))
    assert end(text, **asked)[1] == "ended: requeued 100 times"


def test_a_run_has_the_time_to_save_that_it_was_seen_to_need(tmp_path: Path) -> None:
    for asked, took, seconds in ((None, 0.0, 120), (None, 30.2, 120), (None, 200.5, 602), (60, 200.0, 60)):
        text = render(SlurmConfig(save_seconds=asked), job(tmp_path / "run", save_took=took))
        assert f"--signal=B:USR1@{seconds}\n" in text
        assert f"--save-seconds={seconds} " in text
    with pytest.raises(ConfigError, match="a time of 20 leaves nothing beside save_seconds 602"):
        render(SlurmConfig(time="20"), job(tmp_path / "run", save_took=200.5))


def test_a_cancelled_job_stays_away(tmp_path: Path) -> None:
    (tmp_path / "run/slurm").mkdir(parents=True)
    (tmp_path / "run/slurm/cancel-7").touch()
    found = end(render(SlurmConfig(), job(tmp_path / "run")), tmp_path, code=3, STOPPED=SAVED)
    assert found == (3, "ended: cancelled", "scancel 7\n")


def test_a_storm_of_requeues_without_a_new_checkpoint_is_ended(tmp_path: Path) -> None:
    text = render(SlurmConfig(max_vain_requeues=2), job(tmp_path / "run"))
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    latest = tmp_path / "run/checkpoints/latest"
    story = []
    for life, checkpoint in enumerate(["", "", "kimg1", "kimg1", "kimg2", "kimg2", "kimg2"]):
        if checkpoint:
            latest.write_text(checkpoint + "\n")
        story.append(end(text, tmp_path, code=4, life=life)[1])
    assert story == ["requeued: hung"] * 6 + ["ended: requeued 2 times in a row without a new checkpoint"]

"""The batch scripts that prepare a dataset on several nodes."""

import subprocess
from pathlib import Path
from typing import Any

from launch.slurm.preparing import PreparationRequest, render
from launch.slurm.settings import SlurmConfig

EVIL = "$(touch run-by-accident) `touch run-by-accident` '; touch run-by-accident; ' \" & | > <"


def asked(text: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]
    return dict(line.partition("=")[::2] for line in lines)


def test_an_array_makes_the_parts_and_a_job_after_it_finishes() -> None:
    request = PreparationRequest(("cats", "data/cats", "--resolution=64"), Path("/data/cats"), Path("/work"), 16)
    settings = SlurmConfig(nodes=4, gpus_per_node=8, cpus_per_task=12, partition="cpu")
    parts, finish = render(settings, request, after="afterok:7")
    assert asked(parts).items() >= {"array": "0-15", "nodes": "1", "cpus-per-task": "12", "partition": "cpu"}.items()
    assert "gpus-per-node" not in asked(parts)
    words = "bigtrain data prepare cats data/cats --resolution=64 --workers=12"
    assert f'{words} --part "$SLURM_ARRAY_TASK_ID/16" &' in parts and f"{words} &" in finish
    assert asked(finish)["dependency"] == "afterok:7" and "array" not in asked(finish)
    assert (asked(parts)["output"], asked(finish)["output"]) == (
        "/data/cats.slurm/part-%a.out",
        "/data/cats.slurm/finish.out",
    )


def test_no_word_is_ever_run(tmp_path: Path) -> None:
    request = PreparationRequest((EVIL, f"--name={EVIL}"), tmp_path / EVIL.replace("/", ""), tmp_path, 2)
    for text in render(SlurmConfig(python="true", env={"A": EVIL}), request, after="afterok:7"):
        subprocess.run(["bash", "-n", "-c", text], check=True)
        quiet = text.replace("srun ", "true ").replace("sleep 1", "true")
        subprocess.run(["bash", "-c", quiet], cwd=tmp_path, check=True, env={"SLURM_ARRAY_TASK_ID": "0"})
    assert not list(tmp_path.rglob("run-by-accident"))


def test_the_command_checks_what_the_jobs_will_be_told(bigtrain: Any, tmp_path: Path) -> None:
    words = ("submit", "--prepare=3", "--cpus-per-task=2", "--dry-run", "--", "photos", str(tmp_path / "set"))
    code, out, _ = bigtrain(*words, "--resolution=64")
    assert code == 0 and '--part "$SLURM_ARRAY_TASK_ID/3"' in out and "--resolution=64 --workers=2" in out
    for more, why in (
        ("--rezolution=64", "--rezolution"),
        ("--part=0/3", "leave out --part"),
        ("--quality=x", "--quality"),
    ):
        code, _, err = bigtrain(*words, more)
        assert code == 2 and why in err, err
    assert not list(tmp_path.iterdir())


def test_without_a_folder_it_says_what_is_missing(bigtrain: Any) -> None:
    code, _, err = bigtrain("submit", "--prepare=3", "photos")
    assert code == 2 and "Missing argument 'dest'" in err

"""A user's mistake is one line on stderr and exit code 2, before anything is started."""

import json
import re
from pathlib import Path

import pytest

from bigtrain.config import training_schema
from tests.conftest import ROOT
from tests.recipes import RECIPES

TINY = str(ROOT / "tests" / "tiny.yaml")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["objective.terms.r1.gama=5"],
            "tiny.yaml: unknown key 'objective.terms.r1.gama' (did you mean 'objective.terms.r1.gamma'?)",
        ),
        (["generator.kind=bigan"], "unknown generator.kind 'bigan' (did you mean 'biggan'?)"),
        (["total_kimg=lots"], "'total_kimg': input should be a valid number"),
        (["global_batch=10"], "global_batch 10 is not a multiple of micro_batch 8"),
        (["--nproc", "8"], "global_batch 16 has 2 micro-batches of 8; they do not divide over 8 ranks"),
        (["strategy.kind=single", "--nproc", "2"], "trains one rank, there are 2: use 'ddp'"),
        (["data.path=nowhere"], "nowhere: no such dataset folder (make one with: bigtrain data prepare"),
        (["data.resolution=64"], "data.resolution and width are 64x64, but the images in"),
        (["data.channels=3"], "data.channels is 3, but the images in"),
        (["data.classes=7"], "data.classes is 7"),
        (["generator.multiples=[1,1]"], "generator.multiples: 2 values do not double 4 pixels to 32"),
        (["task=sinthesis"], "unknown task 'sinthesis' (did you mean 'synthesis'?)"),
        (["optim.G.lrr=1"], "unknown key 'optim.G.lrr' (did you mean 'optim.G.lr'?)"),
        (["optim.G.kind=adm"], "unknown optim.G.kind 'adm' (did you mean 'adam'?)"),
        (["optim.E={lr: 1}"], "optim: has D, E, G, but this task has the players D, G"),
        (["run_dir=@full"], "exists and is not a run folder"),
        (["run_dir=@other"], "contains a run with another config (seed: 5 -> 0)"),
    ],
)
def test_a_mistake_in_training(bigtrain, fashion: Path, tmp_path: Path, overrides: list[str], words: str) -> None:
    full, other = tmp_path / "full", tmp_path / "other"
    full.mkdir()
    (full / "letter.txt").write_text("mine")
    other.mkdir()
    resolved = bigtrain("config", "show", TINY, f"data.path={fashion}", "seed=5", f"run_dir={other}")[1]
    (other / "config.yaml").write_text(resolved)
    overrides = [text.replace("@full", str(full)).replace("@other", str(other)) for text in overrides]
    code, _, err = bigtrain("train", TINY, f"data.path={fashion}", f"run_dir={tmp_path / 'run'}", *overrides)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nothing.yaml"], "nothing.yaml: no such file"),
        (["data", "prepare", "fashion-mnits", "x"], "unknown dataset 'fashion-mnits' (did you mean 'fashion-mnist'?)"),
        (["data", "verify", "nowhere"], "nowhere: no such dataset folder"),
        (["data", "info", "nowhere"], "nowhere: no such dataset folder"),
        (["sample", "nowhere", "--out", "x.png"], "nowhere: not a snapshot folder"),
        (["sample", "nowhere", "--out", "x.png", "--seeds", "a-b"], "seeds 'a-b': write them like"),
        (["sync", "nowhere"], "nowhere: not a run folder"),
    ],
)
def test_a_mistake_elsewhere(bigtrain, monkeypatch, tmp_path: Path, arguments: list[str], words: str) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = bigtrain(*arguments)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1


def test_every_recipe_is_valid_and_shows_what_it_resolves_to(bigtrain, tmp_path: Path) -> None:
    for recipe in RECIPES.values():
        code, out, _ = bigtrain("config", "show", str(recipe), "ema.half_life_kimg=20")
        assert code == 0
        assert "half_life_kimg: 20" in out
        (tmp_path / recipe.name).write_text(out)
        assert bigtrain("config", "show", str(tmp_path / recipe.name))[1] == out


def test_the_schema_has_every_key(bigtrain) -> None:
    schema = json.loads(bigtrain("config", "schema")[1])
    assert schema == training_schema()
    asked = "run_dir seed total_kimg global_batch micro_batch precision task data strategy ema log eval checkpoint"
    for kind in ("SynthesisTraining", "TranslationTraining", "UnpairedTraining"):
        assert set(asked.split()) | {"snapshot", "tracking"} <= schema["$defs"][kind]["properties"].keys()


def test_data_commands_describe_and_check(bigtrain, tiny_shards: Path, tmp_path: Path) -> None:
    code, out, _ = bigtrain("data", "info", str(tiny_shards))
    assert code == 0
    assert re.search(r"samples +50\b", out)
    assert re.search(r"field image +.*1x8x8", out)
    assert (tiny_shards / "contact_sheet.png").is_file()
    assert bigtrain("data", "verify", "--deep", str(tiny_shards))[:2] == (0, f"{tiny_shards}: no faults found\n")
    (tiny_shards / "shard-000001.tar").unlink()
    code, out, _ = bigtrain("data", "verify", str(tiny_shards))
    assert code == 1
    assert "the shard is missing" in " ".join(out.split())  # the table has 80 columns
    assert "1 fault found" in out


def test_the_doctor_names_what_is_there_and_what_lacks(bigtrain) -> None:
    code, out, _ = bigtrain("doctor")
    assert code == 0
    for name in ("torch", "CUDA", "NCCL", "gloo", "deepspeed", "ray", "mlflow", "Slurm", "efficientnet", "disk"):
        assert name in out


def test_submit_checks_before_it_asks_slurm(
    bigtrain, fashion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    run = tmp_path / "run"
    submit = ["submit", TINY, f"data.path={fashion}", f"run_dir={run}", "micro_batch=4", "--ranks-per-node=2"]
    code, out, _ = bigtrain(*submit, "--nodes=2", "--array=3-4", "--time=24:00:00", "--dry-run")
    assert code == 0
    assert "#SBATCH --array=3-4" in out
    assert f"RUN={run}/seed$SLURM_ARRAY_TASK_ID" in out
    code, _, err = bigtrain(*submit, "--nodes=4")
    assert (code, "they do not divide over 8 ranks" in err) == (2, True)
    code, _, err = bigtrain(*submit, "precision=fp16")
    assert (code, "fp16" in err) == (2, True)
    monkeypatch.setenv("PATH", "")
    code, _, err = bigtrain(*submit)
    assert (code, err) == (2, "bigtrain: squeue: not found; Slurm's commands are on a cluster's login nodes\n")
    assert not run.exists()

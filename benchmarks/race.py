"""What ten minutes of training on two cores are worth: recipes against each other on Fashion-MNIST, judged by a probe.

    .venv/bin/python benchmarks/race.py short            # as many images as one core processes in three minutes
    .venv/bin/python benchmarks/race.py long --seeds 0 1 2    # as many as two cores process in ten minutes

The networks train on the 60,000 training images. They are compared with the 10,000 of the test split, in the features
of a probe that was trained on the training images. Images are counted, not seconds, so that a run does not depend on
what else the machine does: `race.yaml` states how many each recipe processes in its time. Two runs train at a time, on
one thread each. A finished run is not repeated. Results, and what was learnt from them: `benchmarks/race.md`.
"""

import argparse
import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from cells import BIGTRAIN

HERE = Path(__file__).parent
RECIPES: dict[str, Any] = yaml.safe_load((HERE / "race.yaml").read_text())
METRICS = ("fid", "density_coverage", "class_accuracy")
QUIET = (
    "strategy.kind=single",
    "eval.interval_kimg=0",
    "preview.interval_kimg=0",
    "snapshot.interval_kimg=0",
    "checkpoint.interval_kimg=100000",
    "health.features_kimg=0",
    "tracking.mlflow=false",
)


def bigtrain(*words: object) -> str:
    """Run a command of bigtrain on one thread, and return what it printed.

    Raises:
        RuntimeError: it failed; the message is the end of what it said.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([BIGTRAIN, *map(str, words)], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"bigtrain {words[0]}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def prepare(data: Path) -> None:
    """Make the datasets and the probe that are missing."""
    for split in ("train", "test"):
        if not (data / split / "manifest.json").is_file():
            bigtrain("data", "prepare", "fashion-mnist", data / split, "--split", split)
    judge = data / "judge.safetensors"
    if not judge.is_file():
        settings = ("--epochs", 6, "--batch", 64, "--lr", 0.004)
        print(bigtrain("probe", "train", data / "train", "--held-out", data / "test", "--out", judge, *settings))


def train(recipe: dict[str, Any], out: Path, data: Path, *, seed: int, kimg: float) -> float:
    """Train a recipe, and return how many seconds that took."""
    began = time.perf_counter()
    words = [f"{key}={json.dumps(value)}" for key, value in recipe["overrides"].items()]
    place = (f"run_dir={out}", f"data.path={data / 'train'}", f"seed={seed}", f"total_kimg={kimg}")
    bigtrain("train", HERE.parent / "configs" / recipe["config"], *place, *QUIET, *words)
    return time.perf_counter() - began


def judged(out: Path, data: Path) -> dict[str, Any]:
    """Return the scores of a run's last snapshot, by the probe and by the metric of the quickstart."""
    snapshot = max((out / "snapshots").glob("kimg*"))
    probe = ("--data", data / "test", "--extractor", f"file:{data / 'judge.safetensors'}", "--samples", 10_000)
    metrics = [word for metric in METRICS for word in ("--metric", metric)]
    found = json.loads(bigtrain("evaluate", snapshot, "--json", *probe, *metrics))
    quick = ("--data", data / "test", "--samples", 1000, "--reference-samples", 2000, "--dtype", "bf16")
    return {"probe": found, "quick": json.loads(bigtrain("evaluate", snapshot, "--json", *quick))}


def run(name: str, length: str, seed: int, options: argparse.Namespace) -> None:
    """Train and judge a recipe, unless that is done."""
    recipe = RECIPES[name]
    out = options.runs / f"{name}-{length}-{seed}"
    result = out / "judged.json"
    if not result.is_file():
        seconds = train(recipe, out, options.data, seed=seed, kimg=recipe[length])
        result.write_text(json.dumps({"seconds": seconds, **judged(out, options.data)}))
    print(out.name, result.read_text(), flush=True)


def main() -> None:
    """Run what is missing, and print every score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("length", choices=("short", "long"), help="how many images")
    parser.add_argument("--runs", type=Path, default=Path("runs/race"), help="folder of the runs")
    parser.add_argument("--data", type=Path, default=Path("data/race"), help="folder of the data and of the probe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds")
    parser.add_argument("--only", nargs="+", help="names of recipes")
    options = parser.parse_args()
    prepare(options.data)
    names = [name for name in options.only or RECIPES if options.length in RECIPES[name]]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: run(*job, options), [(n, options.length, s) for s in options.seeds for n in names]))


if __name__ == "__main__":
    main()

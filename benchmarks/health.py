"""Runs that are made to fail, and healthy ones, and what the health monitors report: writes `health.md` here.

    nice python benchmarks/health.py DATA [--out FOLDER]

DATA is a folder of Fashion-MNIST shards (`bigtrain data prepare fashion-mnist-10k DATA`). Every run is
`tests/tiny.yaml` with one rank and the overrides below; a line of the table is one run.
"""

import argparse
import datetime
import json
import platform
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from bigtrain.tracking.spool import read_metrics
from data_pipelines.prepare.arrays import from_arrays
from data_pipelines.read import ShardDataset
from data_pipelines.write import write_shards

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Scenario:
    """A run.

    Attributes:
        name: what is done to it.
        expected: a symptom that must become critical; None for a healthy run.
        kimg: its length.
        overrides: of the config.
        images: size of the training set, with as many held out; None for all images.
        copies: how often each image is there.
    """

    name: str
    expected: str | None
    kimg: float
    overrides: tuple[str, ...] = ()
    images: int | None = None
    copies: int = 1


WIDE = "discriminator={kind: biggan, width: 8, multiples: [1, 2, 4, 4], halvings: 3}"
NO_R1 = "objective={}"
SCENARIOS = (
    Scenario("healthy", None, 4),
    Scenario("healthy, hinge loss", None, 2.4, ("objective.adversarial=hinge",)),
    Scenario(
        "saturating loss, lr_d 5e-3, lr_g 1e-4, no R1",
        "discriminator_wins",
        2.4,
        ("objective={adversarial: minimax}", "optim={G: {lr: 1.0e-4}, D: {lr: 5.0e-3}}"),
    ),
    Scenario("lr_g 1e-2, lr_d 1e-5", "generator_wins", 2.4, ("optim={G: {lr: 1.0e-2}, D: {lr: 1.0e-5}}",)),
    Scenario("learning rates x 50", "learning_stopped", 2.4, ("optim={G: {lr: 0.05}, D: {lr: 0.05}}",)),
    Scenario(
        "20 images, no R1",
        "discriminator_overfits",
        2.4,
        (NO_R1, WIDE, "optim={G: {lr: 1.0e-3, beta1: 0.5}, D: {lr: 1.0e-3, beta1: 0.5}}"),
        images=20,
    ),
    Scenario("30 images, 10 times each", "duplicated_data", 2.4, images=30, copies=10),
)


_HEAD = """# What the health monitors report

{date}, `python benchmarks/health.py DATA`, {machine} CPU, one rank, one thread; BigGAN of width 4 on Fashion-MNIST at
32x32, batches of 16, a log interval of 80 images, features of 64 fakes against 200 training images each 800 images.
"Time" is the duration of the monitoring at each log interval, as a share of the interval; "features" is the duration
of one inspection of features. The evidence is that of the last reading, even if the symptom had disappeared by then.

| run | kimg | correct diagnosis | findings | time | features |
|---|---|---|---|---|---|
"""


def few(data: Path, images: int, copies: int, folder: Path) -> Path:
    """Write a dataset of the first images of another one, each so many times."""
    dataset = ShardDataset(data)
    pixels, labels = dataset.read(list(islice(dataset.locations(), images)))
    many = np.concatenate([pixels] * copies)
    shutil.rmtree(folder, ignore_errors=True)
    write_shards(from_arrays("few", many, list(labels) * copies, classes=dataset.manifest.classes), folder)
    return folder


def train(scenario: Scenario, data: Path, folder: Path) -> tuple[str, bool]:
    """Run a scenario; return its line of the table, and whether it was diagnosed rightly."""
    shutil.rmtree(folder, ignore_errors=True)
    share = 0.01
    if scenario.images is not None:
        data, share = few(data, scenario.images, scenario.copies, folder.with_name(f"{folder.name}-data")), 0.5
    overrides = [
        f"data.path={data}",
        f"run_dir={folder}",
        f"total_kimg={scenario.kimg}",
        "strategy.kind=single",
        "micro_batch=16",
        "log.interval_kimg=0.08",
        "eval.interval_kimg=0",
        "tracking.mlflow=false",
        *scenario.overrides,
        f"health={{features_kimg: 0.8, images: 64, neighbours: 200, held_out: {share}}}",
    ]
    command = [sys.executable, "-m", "bigtrain.train", str(ROOT / "tests" / "tiny.yaml"), *overrides]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    symptoms = json.loads((folder / "health.json").read_text())["symptoms"]
    seen = {line["symptom"]: line for line in symptoms if line["first_seen_kimg"] is not None}
    metrics = read_metrics(folder)
    worst = {name: max((value for _, value in metrics.get(f"health/{name}", [])), default=0.0) for name in seen}
    right = worst.get(scenario.expected, 0) == 2 if scenario.expected else not seen
    alarms = [
        f"**{name}** {'critical' if worst[name] == 2 else 'warning'}, first at kimg {line['first_seen_kimg']:g}: "
        + line["evidence"]
        for name, line in sorted(seen.items(), key=lambda item: item[1]["first_seen_kimg"])
    ]
    share_of_time = statistics.median(
        quick / (0.08 * seconds)
        for (_, quick), (_, seconds) in zip(metrics["time/health_s"], metrics["time/sec_per_kimg"], strict=True)
    )
    thorough = statistics.median([seconds for _, seconds in metrics["time/health_features_s"]][1:])
    said = "; ".join(alarms) or "nothing"
    verdict = "yes" if right else "**no**"
    return (
        f"| {scenario.name} | {scenario.kimg:g} | {verdict} | {said} | {share_of_time:.1%} | {thorough:.1f} s |",
        right,
    )


def main() -> None:
    """Run all scenarios and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/health"))
    parser.add_argument("--only", default="", help="run the scenarios whose name contains this")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    lines, rights = [], []
    for number, scenario in enumerate(SCENARIOS):
        if options.only in scenario.name:
            line, right = train(scenario, options.data, options.out / f"run{number}")
            print(line, flush=True)
            lines.append(line)
            rights.append(right)
    head = _HEAD.format(date=datetime.datetime.now(datetime.UTC).date(), machine=platform.machine())
    (Path(__file__).with_suffix(".md")).write_text(head + "\n".join(lines) + "\n")
    sys.exit(0 if all(rights) else 1)


if __name__ == "__main__":
    main()

"""Whether training in bf16 ends as good as in fp32: the same runs in both, and the Fréchet distances that they reach.

    .venv/bin/python benchmarks/precision.py [--jobs 2] [--report]

Each is the recipe biggan-fashion32 at a quarter of its width and twice its batch, on one rank and one thread, for
200,000 images.
The command goes on where it was stopped. It writes `precision.md` beside itself.
"""

import argparse
import math
import os
import statistics
import time
from pathlib import Path

from cells import Cell, run_all, table

from bigtrain.run.folder import environment_tags

HERE = Path(__file__).parent
CONFIG = HERE.parent / "configs" / "synthesis" / "biggan-fashion32.yaml"
PRECISIONS, SEEDS = ("fp32", "bf16"), (0, 1, 2)
OVERRIDES = (
    "generator.width=8",
    "discriminator.width=8",
    "total_kimg=200",
    "global_batch=64",
    "micro_batch=64",
    "strategy={kind: single}",
    "eval={interval_kimg: 50, samples: 5000, dtype: fp32}",
    "preview.interval_kimg=0",
    "snapshot.interval_kimg=0",
    "checkpoint.interval_kimg=50",
    "health.features_kimg=0",
    "tracking.mlflow=false",
)


def cell(precision: str, seed: int) -> Cell:
    """Return a run."""
    return Cell(CONFIG, f"{precision}--seed{seed}", (*OVERRIDES, f"precision={precision}", f"seed={seed}"))


def report(runs: Path) -> str:
    """Write the page from the seeds that are done in both precisions."""
    rows, means, errors = [], [], []
    seeds = [seed for seed in SEEDS if all(cell(precision, seed).is_done(runs) for precision in PRECISIONS)]
    for precision in PRECISIONS:
        curves = [cell(precision, seed).score(runs) for seed in seeds]
        for kimg, at in enumerate(zip(*curves, strict=True)):
            values = [value for _, value in at]
            rows.append([precision, f"{at[0][0]:g}", *(f"{value:.2f}" for value in values)])
            rows[-1].append(f"{statistics.mean(values):.2f}")
            if kimg == len(curves[0]) - 1:
                means.append(statistics.mean(values))
                errors.append(statistics.stdev(values) / math.sqrt(len(values)))
    tags = environment_tags()
    error = math.hypot(*errors) / means[0]
    return f"""# Training in bf16 and in fp32

{time.strftime("%Y-%m-%d")}, by `python benchmarks/precision.py`; one thread per run, {os.cpu_count()} CPU cores;
bigtrain {tags.get("git.commit", "unknown")[:12]}. The recipe biggan-fashion32 with width 8, batches of 64, trained on
200,000 images of Fashion-MNIST (10,000 images, each shown twenty times). Fréchet distance in EfficientNet-Lite0
features (fp32, 5,000 generated images against all of the dataset), lower is better; not comparable with published FID.

{table(["precision", "kimg", *(f"seed {seed}" for seed in seeds), "mean"], rows)}

At the end, bf16 differs from fp32 by {means[1] / means[0] - 1:+.1%} (means of {len(seeds)} seeds; the standard error of
the difference is {error:.1%}).
"""


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/precision"), help="folder of the runs")
    parser.add_argument("--data", type=Path, default=Path("data/fashion-mnist-10k"), help="the shards")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--report", action="store_true", help="run nothing, write the page")
    options = parser.parse_args()
    if not options.report:
        chosen = [cell(precision, seed) for seed in SEEDS for precision in PRECISIONS]
        run_all(chosen, options.runs, options.data, jobs=options.jobs)
    (HERE / "precision.md").write_text(report(options.runs))


if __name__ == "__main__":
    main()

"""Curves of real runs for benchmarks/sweeps.py: small Fashion-MNIST runs with different learning rates and gammas.

    bigtrain data prepare fashion-mnist-10k data/fashion-mnist-10k
    bigtrain probe train data/fashion-mnist-10k --out probe.safetensors --epochs 2 --batch 64
    OMP_NUM_THREADS=1 python benchmarks/sweep_curves.py --data data/fashion-mnist-10k --minutes 20

Each run is the recipe biggan-fashion32 with fully connected networks, a batch of 64, and another point of the space:
learning rates of both players and the gamma of R1. Runs 24 and on repeat the settings with another seed. All scores
and their errors are written to benchmarks/sweep_curves.json after each run; a second call continues with the next
run.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import bigtrain as bt
from bigtrain.sweep.space import LogUniform, Point, Ratio, Space
from launch.sweep.scores import ScoreReader

FILE = Path(__file__).with_suffix(".json")
EVALUATIONS, SETTINGS = 12, 24
SPACE = Space(
    {
        "optim.G.lr": LogUniform(kind="log_uniform", low=1e-4, high=1e-2),
        "optim.D.lr": Ratio(kind="ratio", of="optim.G.lr", low=0.25, high=4.0),
        "objective.terms.r1.gamma": LogUniform(kind="log_uniform", low=0.003, high=1.0),
    },
    [],
    {},
)


def settings(data: str, probe: str, kimg: float, samples: int) -> dict[str, Any]:
    """Return what all runs change in the recipe."""
    never = dict.fromkeys(("preview.interval_kimg", "snapshot.interval_kimg"), 0)
    return {
        **never,
        "data.path": data,
        "total_kimg": kimg,
        "global_batch": 64,
        "micro_batch": 64,
        "precision": "fp32",
        "generator": {"kind": "mlp", "z_dim": 64, "hidden": [256, 256]},
        "discriminator": {"kind": "mlp", "hidden": [256, 128]},
        "ema.half_life_kimg": kimg / 20,
        "strategy.kind": "single",
        "log.interval_kimg": kimg / EVALUATIONS,
        "eval.interval_kimg": kimg / EVALUATIONS,
        "eval.samples": samples,
        "eval.reference_samples": 2 * samples,
        "eval.dtype": "fp32",
        "eval.extractor": f"file:{probe}",
        "checkpoint.interval_kimg": kimg,
        "tracking.mlflow": False,
        "tracking.system_seconds": 0,
    }


def curve(number: int, common: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train a run; return its point, the thousands of images of each evaluation, and the scores with their errors."""
    seed, setting = divmod(number, SETTINGS)
    point, run, began = SPACE.draw(f"curve {setting}"), folder / f"run-{number:03}", time.monotonic()
    bt.train("configs/synthesis/biggan-fashion32.yaml", **{"run_dir": str(run), "seed": seed, **common, **point})
    scores = ScoreReader(run, "fid", common["eval.samples"]).read()
    return {
        "setting": setting,
        "seed": seed,
        "point": point,
        "coordinates": _shares(point),
        "kimg": [score["samples_seen"] / 1000 for score in scores],
        "fid": [round(score["value"], 3) for score in scores],
        "error": [round(score["error"], 3) for score in scores],
        "seconds": round(time.monotonic() - began, 1),
    }


def _shares(point: Point) -> dict[str, float]:
    """Return where a point lies in the space: from 0 to 1 in each dimension, on its own scale."""
    lows, highs = ({key: getattr(one, end) for key, one in SPACE.dimensions.items()} for end in ("low", "high"))
    low, high, own = map(SPACE.to_linear, (lows, highs, SPACE.coordinates(point)))
    return {key: round((float(own[key]) - float(low[key])) / (float(high[key]) - float(low[key])), 4) for key in own}  # type: ignore[arg-type]


def main() -> None:
    """Train until the time is over, or all runs are done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="data/fashion-mnist-10k")
    parser.add_argument("--probe", default="probe.safetensors", help="a classifier whose features are compared")
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--kimg", type=float, default=24.0)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--file", type=Path, default=FILE)
    options = parser.parse_args()
    common = settings(options.data, options.probe, options.kimg, options.samples)
    known: dict[str, Any] = json.loads(options.file.read_text()) if options.file.is_file() else {"curves": []}
    deadline = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        for number in range(len(known["curves"]), options.runs):
            if time.monotonic() > deadline:
                break
            found = curve(number, common, Path(folder))
            known["curves"].append(found)
            kept = {
                "common": {key: one for key, one in common.items() if not str(one).startswith(("file:", options.data))}
            }
            options.file.write_text(
                json.dumps({**kept, **known}, indent=None).replace('{"setting"', '\n{"setting"') + "\n"
            )
            print(number, found["seconds"], found["fid"][::3], found["error"][-1], flush=True)


if __name__ == "__main__":
    main()

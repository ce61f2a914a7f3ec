"""What unpaired translators learn: cycle errors, and how near outputs come to the partner that training never saw.

    .venv/bin/python benchmarks/unpaired.py SNAPSHOT... [--picture PNG]
    .venv/bin/python benchmarks/unpaired.py --cut --minutes 10 [--arms cyclegan cut] [--seeds 0 1 2] [--nproc 2]
        [--out runs/unpaired]

The arguments are snapshots of `configs/unpaired/cyclegan-emoji64.yaml` or `configs/unpaired/cut-emoji64.yaml`. The test
pairs are the concepts of the split `test`, of which both domains have a picture, prepared here. Distances are the mean
|x| of images in [-1, 1] and `perceptual` on EfficientNet-Lite0. The picture shows the last snapshot: A, A to B, the
partner, and that one B to A.

`--cut` trains CycleGAN, CUT and FastCUT, or those of `--arms`, for the same time each and scores the last snapshots. A
short run of each, in turns, tells how many images that time is, so that each learning rate falls to zero at its end. A
run folder that is there already is resumed, or used as it is where its run is complete, with the length that its first
call measured.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from torch import Tensor

import bigtrain as bt
from bigtrain.evaluation.distances import FeatureDistance, build_distance
from bigtrain.tracking.spool import read_metrics
from data_pipelines.prepare import emoji
from data_pipelines.prepare.run import PrepareOptions, prepare
from data_pipelines.read import ShardDataset

CONFIGS = Path(__file__).parents[1] / "configs" / "unpaired"
FAST = ("terms.patch_nce.weight=10", "terms.patch_nce.identity=0", "flip_equivariance=true")
ARMS = {
    "cyclegan": ("cyclegan-emoji64", ()),
    "cut": ("cut-emoji64", ()),
    "fastcut": ("cut-emoji64", tuple(f"objective.{key}" for key in FAST)),
}
"""Of each arm its recipe and what is changed in it."""
QUIET = ("eval.interval_kimg=0", "health.features_kimg=0", "preview.interval_kimg=0", "tracking.mlflow=false")
_SHOWN = (0, 40, 80, 120, 160, 200, 240, 280)


def partners(folder: Path) -> tuple[Tensor, Tensor]:
    """Return the pictures of the same concepts in both domains, in [-1, 1]."""
    found: list[dict[str, Tensor]] = []
    for name, source in (("A", emoji.flat("test")), ("B", emoji.solid("test"))):
        prepare(source, folder / name, PrepareOptions(seed=None))
        dataset = ShardDataset(folder / name)
        fields = dataset.read(list(dataset.locations()), ["image"])
        names = [item.name.split()[0] for item in source.items]
        found.append(dict(zip(names, torch.from_numpy(fields["image"]).float() / 127.5 - 1, strict=True)))
    both = [name for name in found[0] if name in found[1]]
    A, B = (torch.stack([domain[name] for name in both]) for domain in found)
    return A, B


def distances(perceptual: FeatureDistance, ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """Return the mean |x| between images, and the mean perceptual distance."""
    pairs = zip(ours.split(32), theirs.split(32), strict=True)
    return float((ours - theirs).abs().mean()), float(torch.cat([perceptual(*pair) for pair in pairs]).mean())


def score(place: str | Path, perceptual: FeatureDistance, domains: dict[str, Tensor]) -> dict[str, Tensor]:
    """Print the distances of a snapshot; return what it makes, by the name of the output."""
    loaded, made = bt.load(place), dict[str, Tensor]()
    print(place)
    for output, partner in sorted(domains.items(), reverse=True):
        if output in loaded.snapshot.sampler.outputs:
            (source,) = domains.keys() - {output}
            made[output] = loaded.apply(domains[source], output=output, batch=32)
            found = distances(perceptual, made[output].clamp(-1, 1), partner)
            print("  {} to {}, to the partner: {:.3f}, perceptual {:.2f}".format(source[0], output[0], *found))
    for output, start in domains.items():
        if len(made) == 2:
            (other,) = domains.keys() - {output}
            error = float((loaded.apply(made[other], output=output, batch=32) - start).abs().mean())
            print(f"  cycle {output[0]} to {other[0]} to {output[0]}: {error:.3f}")
    sys.stdout.flush()
    return made


def train(arm: str, folder: Path, kimg: float, seed: int, given: argparse.Namespace, *more: str) -> float:
    """Train an arm; return its speed in images a second, as its run folder tells it."""
    config, changes = ARMS[arm]
    keys = [f"run_dir={folder}", f"seed={seed}", f"total_kimg={kimg}", *QUIET, *changes, *more]
    keys += [f"data.streams.{name}.path={given.out}/{name}" for name in "AB"]
    words = [sys.executable, "-m", "bigtrain", "train", str(CONFIGS / f"{config}.yaml"), "--nproc", str(given.nproc)]
    subprocess.run([*words, *keys], check=True)
    rates = [rate for _, rate in read_metrics(folder)["time/img_per_s"]]
    return statistics.median(rates[1:] or rates)  # the first one has the start in it


def lengths(given: argparse.Namespace) -> dict[str, float]:
    """Return the length of each arm's runs in kimg, from short runs in turns."""
    path = given.out / f"lengths-{given.minutes:g}.json"
    found: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
    if missing := [arm for arm in given.arms if arm not in found]:
        speeds: dict[str, list[float]] = {arm: [] for arm in missing}
        for _ in range(3):
            for arm in missing:
                with TemporaryDirectory() as folder:
                    keys = ("log.interval_kimg=0.04", "snapshot.interval_kimg=0", "checkpoint.interval_kimg=100")
                    speeds[arm].append(train(arm, Path(folder) / "run", given.probe, 0, given, *keys))
        print("images a second:", {arm: [f"{one:.1f}" for one in rates] for arm, rates in speeds.items()}, flush=True)
        seconds = 60 * given.minutes
        found |= {arm: statistics.median(one) * seconds / 1000 for arm, one in speeds.items()}
        path.write_text(json.dumps(found))
    return {arm: found[arm] for arm in given.arms}


def compared(given: argparse.Namespace) -> list[Path]:
    """Train every arm with every seed; return the last snapshots."""
    given.out.mkdir(parents=True, exist_ok=True)
    for name, source in (("A", emoji.flat("train")), ("B", emoji.solid("train"))):
        if not (given.out / name).exists():
            prepare(source, given.out / name, PrepareOptions())
    snapshots = []
    for seed in given.seeds:
        for arm, kimg in lengths(given).items():
            folder = given.out / f"{arm}-{given.minutes:g}-{seed}"
            speed = train(arm, folder, round(kimg, 3), seed, given)
            print(f"{folder}: {kimg:.2f} kimg at {speed:.1f} images a second", flush=True)
            snapshots.append(max((folder / "snapshots").glob("kimg*")))
    return snapshots


@torch.inference_mode()
def main() -> None:
    """Print the distances of all snapshots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("snapshots", nargs="*", metavar="SNAPSHOT")
    parser.add_argument("--picture", type=Path, help="PNG to write.")
    parser.add_argument("--cut", action="store_true", help="Train CycleGAN, CUT and FastCUT for equal time.")
    parser.add_argument("--minutes", type=float, default=10, help="--cut: training of each run, without its start.")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="--cut: what to train.")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    parser.add_argument("--nproc", type=int, default=2, help="--cut: ranks of each run.")
    parser.add_argument("--probe", type=float, default=0.16, help="--cut: kimg of the runs that measure speed.")
    parser.add_argument("--out", type=Path, default=Path("runs/unpaired"), help="--cut: folder of the data and runs.")
    given = parser.parse_args()
    if not given.snapshots and not given.cut:
        parser.error("name snapshots, or train with --cut")
    with torch.inference_mode(False):
        snapshots = [*given.snapshots, *(compared(given) if given.cut else ())]
    perceptual = build_distance("perceptual", torch.device("cpu"))
    with TemporaryDirectory() as folder:
        A, B = partners(Path(folder))
    print(f"{len(A)} concepts")
    print("the input itself: {:.3f}, perceptual {:.2f}".format(*distances(perceptual, A, B)))
    print("beside another concept: {:.3f}, perceptual {:.2f}".format(*distances(perceptual, A, B.roll(1, 0))))
    made = [score(place, perceptual, {"A.image": A, "B.image": B}) for place in snapshots]
    if given.picture:
        columns = [A, made[-1]["B.image"], B, *([made[-1]["A.image"]] if "A.image" in made[-1] else [])]
        rows = [torch.cat([one[row] for one in columns], 2) for row in _SHOWN if row < len(A)]
        pairs = [torch.cat(rows[start : start + 2], 2) for start in range(0, len(rows) - 1, 2)]
        picture = ((torch.cat(pairs, 1).clamp(-1, 1) + 1) * 127.5).round().byte()
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(given.picture)


if __name__ == "__main__":
    main()

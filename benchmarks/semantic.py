"""SPADE and pix2pix on the same label maps: FID, and what a labeller finds in the made pictures of held-out places.

    .venv/bin/python benchmarks/semantic.py [--seeds 0 1 2] [--kimg 16] [--nproc 2] [--out runs/semantic]

It trains `configs/translation/spade-earth64.yaml`, and the networks, losses and optimizers of
`configs/translation/pix2pix-earth64.yaml` on the data of the former: with the same label maps (one channel per label),
pictures, order and seeds. As in the paper's comparison (Park et al. 2019, section 4), all that differs is the method. A
run folder that is there already is resumed, or used as it is where its run is complete.

The last snapshots are then given the maps of the held-out places (`bigtrain data prepare earth DIR --split test`, which
is done here). FID is that of EfficientNet-Lite0's features. Accuracy, class accuracy and class IoU are those of
`benchmarks/terrain.py`: a classifier that learnt on real satellite pictures says which of five classes of land each
cell of a made picture shows. Intervals are of Student's t over the differences between runs of one seed.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from terrain import Labellers, pairs_of
from torch import Tensor
from translation import CPU, features_of, normalised, pixels_of, print_differences, shown

import bigtrain as bt
from bigtrain.augment.derived.label_map import LabelMapConfig
from bigtrain.core.config import parse_config
from bigtrain.core.rng import Draws
from bigtrain.evaluation.extractors import build_extractor
from bigtrain.evaluation.metrics.fid import frechet_distance_of
from data_pipelines.prepare import earth
from data_pipelines.prepare.run import PrepareOptions, prepare

ARMS = ("spade", "pix2pix")
CONFIGS = Path(__file__).parents[1] / "configs" / "translation"
_SHOWN = range(0, 806, 101)


def config_of(arm: str, data: Path) -> dict[str, Any]:
    """Return the config of an arm's runs."""
    config: dict[str, Any] = yaml.safe_load((CONFIGS / "spade-earth64.yaml").read_text())
    if arm == "pix2pix":
        other = yaml.safe_load((CONFIGS / "pix2pix-earth64.yaml").read_text())
        for network in ("generator", "discriminator"):
            config[network]["base"] = other[network]
        config.update({key: other[key] for key in ("objective", "optim")})
    config["data"]["path"] = str(data)
    return config


def train(arm: str, seed: int, given: argparse.Namespace) -> Path:
    """Train an arm; return its last snapshot."""
    path, folder = given.out / f"{arm}.yaml", given.out / f"{arm}-{seed}"
    path.write_text(yaml.safe_dump(config_of(arm, given.out / "earth-train"), sort_keys=False))
    keys = [f"run_dir={folder}", f"seed={seed}", f"total_kimg={given.kimg}", "eval.interval_kimg=0"]
    words = [sys.executable, "-m", "bigtrain", "train", str(path), "--nproc", str(given.nproc), *keys]
    subprocess.run(words, check=True)
    return max((folder / "snapshots").glob("kimg*"))


def sheet(rows: list[Tensor]) -> Image.Image:
    """Return some images of several sets, uint8, one row per set, twice as large."""
    picture = torch.cat([torch.cat([row[place] for place in _SHOWN if place < len(row)], 2) for row in rows], 1)
    height, width = picture.shape[1:]
    return Image.fromarray(picture.permute(1, 2, 0).numpy()).resize((2 * width, 2 * height), Image.Resampling.NEAREST)


def main() -> None:
    """Train all runs, then print their scores and the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    parser.add_argument("--kimg", type=float, default=16, help="Length of each run in thousands of images.")
    parser.add_argument("--nproc", type=int, default=2, help="Ranks of each run.")
    parser.add_argument("--out", type=Path, default=Path("runs/semantic"), help="Folder of the data and the runs.")
    parser.add_argument("--picture", type=Path, help="PNG to write: colours of the labels, pix2pix, SPADE, target.")
    given = parser.parse_args()
    if not (given.out / "earth-train").exists():
        prepare(earth.relief("train"), given.out / "earth-train", PrepareOptions())
    snapshots = {arm: [train(arm, seed, given) for seed in given.seeds] for arm in ARMS}

    test = pairs_of("test")
    palette = parse_config(LabelMapConfig, config_of("spade", given.out)["data"]["derived"]["map"], source="map")
    maps = palette.compute(normalised(test.relief), Draws(0, torch.arange(len(test.relief))))
    labellers = Labellers(pairs_of("train"), test)
    extractor = build_extractor("efficientnet-lite0", "fp32", CPU)
    real, made = features_of(extractor, test.satellite), dict[Path, Tensor]()

    def scores_of(pictures: Tensor) -> dict[str, float]:
        return {"fid": frechet_distance_of(real, features_of(extractor, pictures)), **labellers.scores_of(pictures)}

    def scores_of_snapshot(snapshot: Path) -> dict[str, float]:
        made[snapshot] = pixels_of(bt.load(snapshot).apply(maps, batch=32))
        found = scores_of(made[snapshot])
        print(snapshot, shown(found), flush=True)
        return found

    print(labellers)
    print(f"{len(maps)} real pictures", shown(scores_of(test.satellite)), flush=True)
    ours, theirs = ([scores_of_snapshot(snapshot) for snapshot in snapshots[arm]] for arm in ARMS)
    print_differences(ours, theirs, "SPADE, pix2pix")
    if given.picture:
        colours = torch.tensor(palette.colours, dtype=torch.uint8)[pixels_of(maps)[:, 0].long()].permute(0, 3, 1, 2)
        rows = [colours, made[snapshots["pix2pix"][0]], made[snapshots["spade"][0]], test.satellite]
        sheet(rows).save(given.picture)


if __name__ == "__main__":
    main()

"""What each objective and regulariser is worth on the same small networks, and ADA with 1,000 training images.

    .venv/bin/python benchmarks/objectives.py [--jobs 2] [--only hinge] [--report]

Each cell of the table is a run of `bigtrain train benchmarks/objectives.yaml` with overrides, on one rank and one
thread. The command goes on where it was stopped: a finished cell is not run again. It writes `objectives.md` and
`objectives.png` beside itself.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

from cells import Cell, run_all, table

from bigtrain.objectives.adversarial import GAMES
from bigtrain.run.folder import environment_tags

HERE = Path(__file__).parent
CONFIG = HERE / "objectives.yaml"

REGULARISERS = {
    "none": "{}",
    "R1": "{r1: {gamma: 0.1, interval: 16}}",
    "WGAN-GP": "{wgan_gp: {weight: 1.0}}",
    "LeCam": "{lecam: {weight: 0.1}}",
    "CR": "{cr: {weight: 1.0}}",
}

FEW = (
    "data.max_images=1000",
    "data.classes=0",
    "discriminator.width=32",
    "objective.terms={}",
    "total_kimg=192",
    "eval.interval_kimg=32",
)
"""Few images, and a D that learns them by heart: wide, and without R1, which would keep it from that."""

ADAPTIVE = "{kind: adaptive, target: 0.4, adjust_kimg: 20}"
FEW_IMAGES = {
    "none": (),
    "ADA (bg)": (f"augment={{kind: ada, transforms: bg, probability: {ADAPTIVE}}}",),
}
SEEDS = (0, 1, 2)
COMMAND = "python benchmarks/objectives.py"


def game_cell(game: str, regulariser: str, seed: int = 0) -> Cell:
    """Return the run of a game with a regulariser."""
    overrides = (f"objective.adversarial={game}", f"objective.terms={REGULARISERS[regulariser]}", f"seed={seed}")
    return Cell(CONFIG, f"{game}--{regulariser.replace(' ', '')}--seed{seed}", overrides)


def few_cell(kind: str, seed: int) -> Cell:
    """Return the run on 1,000 images with an augmentation."""
    name = "".join(letter for letter in kind.lower() if letter.isalnum())
    return Cell(CONFIG, f"1000-images--{name}--seed{seed}", (*FEW, *FEW_IMAGES[kind], f"seed={seed}"))


def all_cells() -> list[Cell]:
    """Return every run, the most wanted first."""
    few = [few_cell(kind, seed) for seed in SEEDS for kind in FEW_IMAGES]
    games = [game_cell(game, regulariser) for regulariser in REGULARISERS for game in GAMES]
    repeats = [game_cell("non_saturating", "R1", seed) for seed in SEEDS[1:]]
    return [*few[: len(FEW_IMAGES)], *games, *repeats, *few[len(FEW_IMAGES) :]]


def report(runs: Path) -> str:
    """Write the page from the runs that are done."""

    def final(cell: Cell) -> float | None:
        return cell.score(runs)[-1][1] if cell.is_done(runs) else None

    def shown(cell: Cell) -> str:
        score = final(cell)
        return "–" if score is None else f"{score:.1f}"

    games = [[game, *(shown(game_cell(game, regulariser)) for regulariser in REGULARISERS)] for game in GAMES]
    noise = [score for seed in SEEDS if (score := final(game_cell("non_saturating", "R1", seed))) is not None]
    few, bests = [], []
    for kind in FEW_IMAGES:
        scores = [score for seed in SEEDS if (score := final(few_cell(kind, seed))) is not None]
        mean = f"{statistics.mean(scores):.1f}" if scores else "–"
        lowest = [min(value for _, value in points) for seed in SEEDS if (points := few_cell(kind, seed).score(runs))]
        bests.append(f"{kind} {', '.join(f'{value:.1f}' for value in lowest)}" if lowest else f"{kind} –")
        few.append([kind, *(shown(few_cell(kind, seed)) for seed in SEEDS), mean])
    tags, best = environment_tags(), "; ".join(bests)
    spread = f"{min(noise):.1f} to {max(noise):.1f} over {len(noise)} seeds" if noise else "not measured"
    return f"""# Objectives, measured

{time.strftime("%Y-%m-%d")}, by `{COMMAND}`; {os.cpu_count()} CPU cores, one thread a run; bigtrain
{tags.get("git.commit", "unknown")[:12]}. Fréchet distance in EfficientNet-Lite0 features (bf16, 1,000 generated images
against 5,000 of the dataset), lower is better; not comparable with published FID.

## Adversarial loss and regulariser, after 20,000 images

All combinations use the same networks (`benchmarks/objectives.yaml`: DCGAN with width 16, no normalisation in D) and
the same settings. Nothing was tuned for a single combination, so that an adversarial loss may do better with other
settings. Wasserstein without a gradient penalty is refused ("–"), because nothing would bound the slope of D. Noise:
non_saturating with R1 has distances from {spread}.

{table(["adversarial loss", *REGULARISERS], games)}

## 1,000 training images, after 192,000

The runs are unconditional, with the non-saturating loss, and with a D that is twice as wide and has no R1, so that it
memorises its images. The distance is to images of the whole dataset, most of which were not in the training set. The
best values over the evaluations of each run: {best}.

{table(["augmentation", *(f"seed {seed}" for seed in SEEDS), "mean"], few)}

If D does not memorise the images, ADA does not help: with a D of width 16, R1 of 0.01 and 96,000 images (one seed,
tried first, 2026-11-22), the distance was 59.8 with ADA and 51.7 without.

![Fréchet distance while training on 1,000 images](objectives.png)
"""


def picture(runs: Path, path: Path) -> None:
    """Draw how the distance went on 1,000 images."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 3.6))
    for color, kind in zip(("tab:grey", "tab:blue"), FEW_IMAGES, strict=True):
        label = kind
        for seed in SEEDS:
            points = few_cell(kind, seed).score(runs)
            if points:
                kimg, distance = zip(*points, strict=True)
                axis.plot(kimg, distance, color=color, marker="o", markersize=3, label=label)
                label = "_nolegend_"
    axis.set_xlabel("thousands of images shown")
    axis.set_ylabel("Fréchet distance")
    axis.grid(alpha=0.3)
    if axis.lines:
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/objectives"), help="folder of the runs")
    parser.add_argument("--data", type=Path, default=Path("data/fashion-mnist-10k"), help="the shards")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--only", default="", help="run only cells with this in their name")
    parser.add_argument("--report", action="store_true", help="run nothing, write the page")
    options = parser.parse_args()
    if not options.report:
        chosen = [cell for cell in all_cells() if options.only in cell.name]
        run_all(chosen, options.runs, options.data, jobs=options.jobs)
    (HERE / "objectives.md").write_text(report(options.runs))
    picture(options.runs, HERE / "objectives.png")


if __name__ == "__main__":
    main()

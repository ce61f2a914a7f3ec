"""Put plans beside the speeds that NVIDIA publishes for its own StyleGAN code.

    python -m benchmarks.published_speeds --write     # about three minutes; needs no GPU

The published column is documentation of stylegan3 (`docs/configs.md`: seconds per 1000 images, "typically by no more
than 20 %" apart from run to run). Theirs is other code: float16 in the higher resolutions, fused CUDA kernels, all else
in float32 without TF32. Plans here are of our code with `precision=fp16`, the precision that both kinds of card have.
Nothing is fitted to these numbers.
"""

import argparse
import math
from pathlib import Path
from typing import NamedTuple

from bigtrain.config import load_training
from bigtrain.planning.hardware import Cluster, find_gpu, load_hardware
from bigtrain.planning.plan import make_plan

CONFIGS = Path(__file__).parent.parent / "configs"
PAGE = Path(__file__).parent / "planning.md"
MARKS = ("<!-- published: written by benchmarks/published_speeds.py -->", "<!-- /published -->")
STYLEGAN2, STYLEGAN3 = "stylegan2-ffhq1024", "stylegan3-t-ffhq1024"


class Row(NamedTuple):
    """A published configuration.

    Attributes:
        name: of it.
        config: ours.
        overrides: what makes it that one.
        cards: GPUs of one node.
        published: seconds per 1000 images, by GPU.
    """

    name: str
    config: str
    overrides: tuple[str, ...]
    cards: int
    published: dict[str, float]


def _smaller(resolution: int, micro_batch: int) -> tuple[str, ...]:
    return (f"data.resolution={resolution}", f"micro_batch={micro_batch}")


ROWS = (
    Row("StyleGAN2, 1024x1024", STYLEGAN2, (), 8, {"v100": 17.55, "a100": 14.57}),
    Row("StyleGAN3-T, 1024x1024", STYLEGAN3, (), 8, {"v100": 28.71, "a100": 20.01}),
    Row("StyleGAN3-T, 1024x1024", STYLEGAN3, (), 1, {"v100": 221.85, "a100": 156.91}),
    Row("StyleGAN3-T, 512x512", STYLEGAN3, _smaller(512, 4), 8, {"v100": 18.47, "a100": 12.29}),
    Row("StyleGAN3-T, 512x512", STYLEGAN3, _smaller(512, 8), 1, {"v100": 137.33, "a100": 90.25}),
    Row("StyleGAN3-T, 256x256", STYLEGAN3, _smaller(256, 4), 8, {"v100": 13.04, "a100": 7.32}),
    Row("StyleGAN3-T, 256x256", STYLEGAN3, _smaller(256, 16), 1, {"v100": 89.15, "a100": 49.81}),
)


def planned(row: Row, gpu: str) -> float:
    """Return the plan's seconds per 1000 images."""
    known = load_hardware()
    card = find_gpu(known, gpu)
    cluster = Cluster(card, known.assumed, 1, row.cards, card.network_gbit_s * 1e9 / 8)
    config = load_training(str(CONFIGS / f"{row.config}.yaml"), ["precision=fp16", *row.overrides])
    return make_plan(config, cluster).hours * 3600 / config.total_kimg


def table() -> str:
    """Return the rows as Markdown, and the mean error of a card's."""
    lines = ["| | cards | published, s/kimg | plan | error |", "|---|---|---|---|---|"]
    errors: dict[str, list[float]] = {"v100": [], "a100": []}
    for gpu, found in errors.items():
        for row in ROWS:
            plan, published = planned(row, gpu), row.published[gpu]
            found.append(math.log(plan / published))
            print(f"{row.name} {row.cards} {gpu}: {plan:.1f}, published {published}", flush=True)
            figures = f"{published:.1f} | {plan:.1f} | {plan / published - 1:+.0%}"
            lines.append(f"| {row.name} | {row.cards} {gpu.upper()} | {figures} |")
    means = (f"{math.exp(sum(found) / len(found)) - 1:+.0%} on {gpu.upper()}" for gpu, found in errors.items())
    return "\n".join([*lines, "", f"Geometric mean of the errors: {', '.join(means)}."])


def main() -> None:
    """Print the table, or write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into planning.md")
    options = parser.parse_args()
    found = table()
    print(found)
    if options.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
        PAGE.write_text(f"{before}{MARKS[0]}\n{found}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Put plans beside published speeds of the same networks, and fit what a card reaches of its peaks to them.

    python -m benchmarks.published_speeds --write     # about four minutes; needs no GPU

The published rows are from documentation: stylegan3's `docs/configs.md` (seconds per 1000 images on V100 and A100,
"typically by no more than 20 %" apart from run to run), the table "Expected training time" of stylegan2-ada-pytorch's
README (V100, with ADA), and BigGAN-PyTorch's README (15 days for 150,000 iterations of 2048 images on 8 V100, in
float32). Theirs is other code: StyleGAN's computes in float16 at its four highest resolutions and in float32 without
TF32 below, with fused CUDA kernels. Plans here are of our code with `precision=fp16`; for StyleGAN2 the layers that
theirs computes in float32 are planned in float32.

Of each card two numbers are fitted, the shares of its arithmetic and of its memory's bandwidth that operators reach,
starting from what `hardware.yaml` assumes. What a fit is worth is told by networks that it has not seen: rows of one
network are near copies of each other, so a whole network is left out at a time.
"""

import argparse
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigtrain.config import load_training
from bigtrain.planning.hardware import Assumed, Cluster, find_gpu, load_hardware
from bigtrain.planning.planner import Planner
from bigtrain.planning.step import Setup, StepTime, operator_seconds, step_time

CONFIGS = Path(__file__).parent.parent / "configs" / "synthesis"
PAGE = Path(__file__).parent / "planning.md"
MARKS = ("<!-- published: written by benchmarks/published_speeds.py -->", "<!-- /published -->")
HALF = ("precision=fp16",)
ADA = ("augment={kind: ada, probability: {kind: fixed, p: 0.5}}",)
WIDER = ("generator.variant=r", "generator.channel_base=65536", "generator.channel_max=1024")
ARITHMETIC, BANDWIDTHS = np.geomspace(0.2, 1.0, 33), np.geomspace(0.3, 0.92, 24)
"""Shares of arithmetic and of bandwidth that are tried; no program copies memory at more than some 92 % of its peak."""
OTHER_CODE = ("StyleGAN3-R",)
"""Networks that tell nothing of a card: our radial filters are sums of separable ones, theirs are one fused kernel."""
KNOWN = load_hardware()
NOISE, PRIOR = 0.2, math.log(2)
"""Spread of a row, and of what is assumed, in natural logarithms: 20 %, and a factor of two."""


class Row(NamedTuple):
    """A published configuration.

    Attributes:
        network: of it.
        config: ours.
        overrides: what makes it that one.
        cards: GPUs of one node.
        published: seconds per 1000 images, by GPU.
        wide: overrides that leave the part that the published code computes in float32; none where that is unknown.
    """

    network: str
    config: str
    overrides: tuple[str, ...]
    cards: int
    published: dict[str, float]
    wide: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The network and its resolution."""
        size = next((one.partition("=")[2] for one in self.overrides if one.startswith("data.resolution=")), "1024")
        return f"{self.network}, {size}x{size}"


def _stylegan3(variant: str, size: int, micro_batch: int, cards: int, v100: float, a100: float) -> Row:
    overrides = (*HALF, f"data.resolution={size}", f"micro_batch={micro_batch}", *(WIDER if variant == "R" else ()))
    return Row(f"StyleGAN3-{variant}", "stylegan3-t-ffhq1024", overrides, cards, {"v100": v100, "a100": a100})


def _stylegan2(network: str, size: int, per_card: int, cards: int, published: dict[str, float]) -> Row:
    batch = (f"global_batch={per_card * cards}", f"micro_batch={per_card}")
    augmented = ADA if "ADA" in network else ()
    overrides = (*HALF, f"data.resolution={size}", *batch, *augmented)
    return Row(network, "stylegan2-ffhq1024", overrides, cards, published, (f"data.resolution={size // 16}", *batch))


ROWS = (
    _stylegan2("StyleGAN2", 1024, 4, 8, {"v100": 17.55, "a100": 14.57}),
    _stylegan2("StyleGAN2-ADA", 1024, 4, 8, {"v100": 20.4}),
    _stylegan2("StyleGAN2-ADA", 1024, 4, 1, {"v100": 158.0}),
    _stylegan2("StyleGAN2-ADA", 512, 8, 8, {"v100": 9.6}),
    _stylegan2("StyleGAN2-ADA", 512, 8, 1, {"v100": 73.7}),
    _stylegan3("T", 1024, 4, 8, 28.71, 20.01),
    _stylegan3("T", 1024, 4, 1, 221.85, 156.91),
    _stylegan3("T", 512, 4, 8, 18.47, 12.29),
    _stylegan3("T", 512, 8, 1, 137.33, 90.25),
    _stylegan3("T", 256, 4, 8, 13.04, 7.32),
    _stylegan3("T", 256, 16, 1, 89.15, 49.81),
    _stylegan3("R", 1024, 4, 8, 34.12, 23.42),
    _stylegan3("R", 1024, 4, 1, 263.44, 184.81),
    _stylegan3("R", 512, 4, 8, 20.44, 14.04),
    _stylegan3("R", 512, 4, 1, 158.91, 110.13),
    _stylegan3("R", 256, 4, 8, 11.88, 8.03),
    _stylegan3("R", 256, 8, 1, 87.37, 56.73),
    Row(
        "BigGAN",
        "biggan-imagenet128",
        ("precision=fp32", "micro_batch=32", "objective.n_critic=1", "objective.terms={}", "data.resolution=128"),
        8,
        {"v100": 15 * 86400 / (150 * 2048)},
    ),
)


@dataclass(frozen=True)
class Part:
    """A step of a config, counted.

    Attributes:
        factor: of its time in the row's.
        setup: what it computes.
        samples: of a step, all cards together.
        assumed: times with the shares that are assumed, by GPU.
    """

    factor: float
    setup: Setup
    samples: int
    assumed: Mapping[str, StepTime]

    def seconds(self, gpu: str, cluster: Cluster) -> float:
        """Return the plan's seconds per 1000 images with a cluster's shares."""
        operators = sum(
            often * float(operator_seconds(self.setup.works[kind], self.setup, cluster).sum())
            for kind, often in self.setup.often.items()
        )
        slower = KNOWN.assumed.bandwidth_share / cluster.assumed.bandwidth_share
        beside = self.assumed[gpu].update * slower + self.assumed[gpu].waiting
        return self.factor * (operators * self.setup.accumulation + beside) * 1000 / self.samples


@dataclass(frozen=True)
class Counted:
    """A row and what its steps compute."""

    row: Row
    parts: Sequence[Part]

    def seconds(self, gpu: str, arithmetic: float, bandwidth: float) -> float:
        """Return the plan's seconds per 1000 images with some shares of a card."""
        reached = KNOWN.assumed.model_copy(update={"arithmetic_share": arithmetic, "bandwidth_share": bandwidth})
        cluster = cluster_of(gpu, self.row.cards, reached)
        return sum(part.seconds(gpu, cluster) for part in self.parts)


def cluster_of(gpu: str, cards: int, assumed: Assumed) -> Cluster:
    """Return a node of cards without shares of their own."""
    card = find_gpu(KNOWN, gpu).model_copy(update={"arithmetic_share": None, "bandwidth_share": None})
    return Cluster(card, assumed, 1, cards, card.network_gbit_s * 1e9 / 8)


def count_rows(rows: Iterable[Row]) -> list[Counted]:
    """Count every row's steps; what theirs computes in float32 is put in the place of the same part in float16."""
    known: dict[tuple[str, ...], Planner] = {}

    def part(row: Row, factor: float, *overrides: str) -> Part:
        key = (row.config, *(one for one in overrides if not one.startswith("global_batch=")))  # a micro-batch counts
        config = load_training(str(CONFIGS / f"{row.config}.yaml"), list(overrides))
        if key not in known:
            known[key] = Planner(config, row.cards)
            print(f"counted {' '.join(key)}", flush=True)
        planner = known[key]
        setup = planner.at(planner.micro_batch, config.global_batch // row.cards)
        players = planner.shared(config.strategy, row.cards, setup.accumulation)
        times = {gpu: step_time(setup, players, cluster_of(gpu, row.cards, KNOWN.assumed)) for gpu in row.published}
        return Part(factor, setup, config.global_batch * planner.batches_per_step, times)

    found = []
    for row in rows:
        parts = [part(row, 1.0, *row.overrides)]
        if row.wide:
            parts += [part(row, 1.0, *row.wide, "precision=fp32"), part(row, -1.0, *row.wide, *HALF)]
        found.append(Counted(row, parts))
    return found


@dataclass(frozen=True)
class Fit:
    """What the rows of a card say about it.

    Attributes:
        gpu: the card.
        rows: those that are published for it.
        assumed: logarithms of plan over published, with what is assumed.
        fitted: with the fit to all rows.
        unseen: of each row, with the fit to the other networks' rows; of other code, with the fit to all rows.
        shares: of arithmetic and of bandwidth, fitted to all rows; then what each network's absence leaves.
    """

    gpu: str
    rows: list[Row]
    assumed: NDArray[np.float64]
    fitted: NDArray[np.float64]
    unseen: NDArray[np.float64]
    shares: Mapping[str, tuple[float, float]]


def fit(gpu: str, counted: Sequence[Counted]) -> Fit:
    """Fit a card's shares, to all of its rows that are fitted to, and to those without each network's."""
    mine = [one for one in counted if gpu in one.row.published]

    def errors(arithmetic: float, bandwidth: float) -> list[float]:
        return [math.log(one.seconds(gpu, arithmetic, bandwidth) / one.row.published[gpu]) for one in mine]

    start = (KNOWN.assumed.arithmetic_share, KNOWN.assumed.bandwidth_share)
    grid = np.array([[errors(float(a), float(b)) for b in BANDWIDTHS] for a in ARITHMETIC])
    networks = [one.row.network for one in mine]
    apart = np.log(ARITHMETIC / start[0])[:, None] ** 2 + np.log(BANDWIDTHS / start[1])[None] ** 2

    def best(without: str | None) -> tuple[int, int]:
        # Rows of a network are near copies of each other: each network counts as one row.
        weights = np.array([0.0 if one in (without, *OTHER_CODE) else 1 / networks.count(one) for one in networks])
        score = (grid**2 @ weights) / NOISE**2 + apart / PRIOR**2
        row, column = np.unravel_index(int(score.argmin()), score.shape)
        return int(row), int(column)

    places = {"": best(None), **{one: best(one) for one in dict.fromkeys(networks) if one not in OTHER_CODE}}
    return Fit(
        gpu=gpu,
        rows=[one.row for one in mine],
        assumed=np.array(errors(*start)),
        fitted=grid[places[""]],
        unseen=np.array([grid[places.get(one, places[""])][index] for index, one in enumerate(networks)]),
        shares={name: (float(ARITHMETIC[a]), float(BANDWIDTHS[b])) for name, (a, b) in places.items()},
    )


def by_network(rows: Sequence[Row], errors: NDArray[np.float64]) -> float:
    """Return the root mean square of the logarithms, each network counting once, as a factor less one."""
    networks = [row.network for row in rows]
    weights = np.array([0.0 if one in OTHER_CODE else 1 / networks.count(one) for one in networks])
    return math.expm1(math.sqrt(float((errors**2 * weights).sum() / weights.sum())))


def table(fits: Sequence[Fit]) -> str:
    """Return the rows as Markdown, with their errors, and what the fits are worth."""
    lines = [
        "| | cards | published, s/kimg | plan | error | fitted | fitted to the other networks |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in fits:
        for index, row in enumerate(one.rows):
            published = row.published[one.gpu]
            errors = [f"{math.expm1(float(e[index])):+.0%}" for e in (one.assumed, one.fitted, one.unseen)]
            plan = published * math.exp(float(one.assumed[index]))
            place = f"{row.cards} {one.gpu.upper()}"
            lines.append(f"| {row.name} | {place} | {published:.1f} | {plan:.1f} | {' | '.join(errors)} |")
    lines += [
        "",
        "| | arithmetic | bandwidth | error of assumed | of fitted | of networks left out |",
        "|---|---|---|---|---|---|",
    ]
    for one in fits:
        worth = [f"{by_network(one.rows, e):.0%}" for e in (one.assumed, one.fitted, one.unseen)]
        arithmetic, bandwidth = one.shares[""]
        lines.append(f"| {one.gpu.upper()} | {arithmetic:.2f} | {bandwidth:.2f} | {' | '.join(worth)} |")
        for name, (a, b) in list(one.shares.items())[1:]:
            lines.append(f"| without {name} | {a:.2f} | {b:.2f} | | | |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, or write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into planning.md")
    options = parser.parse_args()
    counted = count_rows(ROWS)
    found = table([fit(gpu, counted) for gpu in ("v100", "a100")])
    print(found)
    if options.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
        PAGE.write_text(f"{before}{MARKS[0]}\n{found}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()

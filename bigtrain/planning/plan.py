"""The plan of a run, as a table, a file or a plot can show it."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bigtrain.config import TrainingConfig
from bigtrain.planning.determinism import Determinism, cost_of_determinism
from bigtrain.planning.hardware import Cluster
from bigtrain.planning.hazards import Hazard, find_hazards, operations
from bigtrain.planning.micro_batch import SHARE
from bigtrain.planning.planner import CONTEXT, Estimate, Planner, choices
from bigtrain.planning.step import Setup, host_share
from bigtrain.strategies import strategy_of

CURVE = tuple(2**power for power in range(11))
"""Numbers of cards of the efficiency curve."""

SHARD_IMAGES = 1000
"""Images a shard, as `bigtrain data prepare` makes them."""


@dataclass(frozen=True)
class Point:
    """A number of cards on the efficiency curve.

    Attributes:
        gpus: how many.
        same_batch: efficiency if they share the config's batch out; None where it does not divide.
        same_images: efficiency if each has as many images as in the plan, so that the batch grows.
        img_per_s: of the second.
    """

    gpus: int
    same_batch: float | None
    same_images: float
    img_per_s: float


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes:
        cluster: where.
        parameters: learnt numbers of each network.
        phases: of each kind of phase: `name`, how `often` a step has it, `gflop_per_img`, `activations` in bytes.
        gflop_per_img: of all phases, for a real image that D is shown.
        micro_batch: images at once.
        accumulation: micro-batches a step and rank.
        estimates: of all strategies.
        chosen: name of the config's own.
        best: name of the one to take; None if none fits.
        reason: why.
        hours: of training to the end by the chosen strategy, without evaluation.
        gpu_hours: likewise.
        usd: at the price of a card; None without one.
        checkpoint: `bytes`, `snapshot_bytes`; `stall_s` for which one holds up the training, `share` of the time that
            this is; `write_s` beside the training; `load_bytes`, which a node reads at a start.
        data: `bytes_per_img` uncompressed, `bytes_per_s` of all nodes, `bytes_per_s_node`, `least_shards`.
        curve: efficiency over numbers of cards, by the chosen strategy.
        operations: what the run takes beside its steps, see `hazards.operations`.
        determinism: what `deterministic` costs; None where the config does not ask for it.
        hazards: what will hurt, and the key that mends it.
        notes: what was assumed and not measured.
    """

    cluster: Cluster
    parameters: dict[str, int]
    phases: list[dict[str, Any]]
    gflop_per_img: float
    micro_batch: int
    accumulation: int
    estimates: list[Estimate]
    chosen: str
    best: str | None
    reason: str
    hours: float
    gpu_hours: float
    usd: float | None
    checkpoint: dict[str, float]
    data: dict[str, float]
    curve: list[Point]
    operations: dict[str, float]
    determinism: Determinism | None
    hazards: list[Hazard]
    notes: list[str]

    @property
    def own(self) -> Estimate:
        """The estimate of the config's own strategy."""
        return next(one for one in self.estimates if one.name == self.chosen)

    def in_words(self) -> str:
        """Return the main figures in a line, for the header of a config."""
        own, millions = self.own, sum(self.parameters.values()) / 1e6
        memory, speed = f"{own.memory.total / 2**30:.1f} GiB per GPU", f"{own.img_per_s:,.0f} img/s"
        return (
            f"{millions:,.0f} M parameters, {self.gflop_per_img:,.0f} GFLOP per image, {memory}, {speed} "
            f"({own.efficiency:.0%} efficiency, {own.mfu:.0%} MFU), {self.hours:,.0f} hours, "
            f"{self.gpu_hours:,.0f} GPU-hours, {self.best or 'nothing'} is best"
        )

    def as_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        cluster = self.cluster
        place = {"gpu": cluster.gpu.model_dump(), "assumed": cluster.assumed.model_dump()}
        return {**asdict(self), "cluster": {**asdict(cluster), **place}}


def make_plan(config: TrainingConfig, cluster: Cluster, *, price: float | None = None) -> Plan:
    """Plan a run.

    Args:
        config: of the run.
        cluster: where.
        price: of a card and hour; None for the example price of the card.

    Raises:
        ConfigError: the run and the cluster do not fit.
    """
    planner = Planner(config, cluster.world_size)
    images = config.global_batch // cluster.world_size
    strategies = choices(config, cluster)
    chosen = next(name for name, strategy in strategies.items() if strategy == config.strategy)
    micro_batch = _micro_batch(planner, strategies[chosen], cluster, images)
    estimates = [
        planner.estimate(name, strategy, cluster, micro_batch=micro_batch, images=images)
        for name, strategy in strategies.items()
    ]
    own = next(one for one in estimates if one.name == chosen)
    best, reason = _best(estimates)
    hours = config.total_kimg * 1000 / own.img_per_s / 3600
    price = cluster.gpu.usd_per_hour if price is None else price
    setup = planner.at(micro_batch, images)
    checkpoint = _checkpoint(config, planner, own, cluster)
    beside = operations(config, planner, own, cluster, checkpoint)
    determinism = cost_of_determinism(planner, setup, cluster, own.time.total)
    return Plan(
        cluster=cluster,
        parameters={name: sizes.weights // 4 for name, sizes in planner.players.items()},
        phases=[
            {
                "name": " + ".join(kind),
                "often": setup.often[kind],
                "gflop_per_img": work.flops.sum() / micro_batch / 1e9,
                "activations": work.activations,
            }
            for kind, work in setup.works.items()
        ],
        gflop_per_img=setup.flops / images / planner.batches_per_step / 1e9,
        micro_batch=micro_batch,
        accumulation=setup.accumulation,
        estimates=estimates,
        chosen=chosen,
        best=best,
        reason=reason,
        hours=hours,
        gpu_hours=hours * cluster.world_size,
        usd=None if price is None else hours * cluster.world_size * price,
        checkpoint=checkpoint,
        data=_data(config, own, cluster),
        curve=_curve(config, planner, cluster, strategies[chosen], micro_batch, images),
        operations=beside,
        determinism=determinism,
        hazards=[*find_hazards(config, own, cluster, beside), *(determinism.hazards() if determinism else ())],
        notes=[*_notes(config, cluster), *_bound_by_host(setup, cluster)],
    )


def _micro_batch(planner: Planner, strategy: Any, cluster: Cluster, images: int) -> int:
    if planner.config.micro_batch != "auto":
        return planner.micro_batch
    found = planner.estimate("auto", strategy, cluster, micro_batch=planner.micro_batch, images=images)
    return found.largest_micro_batch or planner.micro_batch


def _best(estimates: list[Estimate]) -> tuple[str | None, str]:
    """Return the fastest strategy that fits, and in words why."""
    able = [one for one in estimates if one.refused is None]
    fitting = sorted((one for one in able if one.fits), key=lambda one: one.time.total)
    if not fitting:
        leanest = min(able, key=lambda one: one.memory.total)
        room = max(able, key=lambda one: one.largest_micro_batch)
        advice = (
            f"{room.name} fits with micro_batch {room.largest_micro_batch}"
            if room.largest_micro_batch
            else "no micro_batch fits: use a smaller network, activation_checkpointing or larger GPUs"
        )
        return (
            None,
            f"none fits; {leanest.name} needs the least memory, {leanest.memory.total / 2**30:.1f} GiB per GPU; "
            f"{advice}",
        )
    first, *others = fitting
    reason = "the fastest of those that fit" if others else "the only one that fits"
    if others:
        slower = others[0].time.total / first.time.total - 1
        reason += f"; {others[0].name} is {slower:.1%} slower"
        reason += f" and takes {others[0].memory.total / first.memory.total:.0%} of its memory"
    too_large = [one.name for one in able if not one.fits]
    return first.name, reason + (f"; {', '.join(too_large)} would not fit" if too_large else "")


def _checkpoint(config: TrainingConfig, planner: Planner, own: Estimate, cluster: Cluster) -> dict[str, float]:
    networks = {name: sizes.weights + sizes.buffers for name, sizes in planner.players.items()}
    moments = sum(2 * sizes.bytes_of(sizes.trainable) for sizes in planner.players.values())
    averages = (1 + len(config.ema.profiles)) * sum(map(sum, planner.averaged.values()))
    size = sum(networks.values()) + moments + averages
    on_rank = own.memory.parameters + own.memory.optimizer + own.memory.average
    node = (own.memory.parameters + own.memory.optimizer) * cluster.gpus_per_node + own.memory.average
    stall = on_rank / (cluster.assumed.host_copy_gb_s * 1e9)
    between = config.checkpoint.interval_kimg * 1000 / own.img_per_s
    return {
        "bytes": size,
        "snapshot_bytes": averages,
        "stall_s": stall,
        "write_s": size / (cluster.assumed.disk_gb_s * 1e9),
        "load_bytes": min(node, size),  # the ranks of a node share the file system's cache
        "share": stall / between,
    }


def _data(config: TrainingConfig, own: Estimate, cluster: Cluster) -> dict[str, float]:
    specs = config.data.field_specs().values()
    size, rate = (
        sum(math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in specs if spec.shape),
        own.img_per_s,
    )
    return {
        "bytes_per_img": size,
        "bytes_per_s": size * rate,
        "bytes_per_s_node": size * rate / cluster.nodes,
        # While one window is read the next is fetched, and each rank of a node begins with another shard of it.
        "least_shards": 2
        * max(max(stream.reading.window for stream in config.data.streams.values()), cluster.gpus_per_node),
    }


def _curve(
    config: TrainingConfig, planner: Planner, cluster: Cluster, strategy: Any, micro_batch: int, images: int
) -> list[Point]:
    points = []
    for gpus in CURVE:
        part = cluster.of(gpus)
        if part is None or (getattr(strategy, "shard_ranks", None) or 1) > gpus:
            continue
        grown = planner.estimate("", strategy, part, micro_batch=micro_batch, images=images)
        share, rest = divmod(config.global_batch, gpus)
        fitting = [size for size in planner.sizes if size <= micro_batch and not rest and share % size == 0]
        same = None
        if fitting:
            shared = planner.estimate("", strategy, part, micro_batch=max(fitting), images=share)
            same = shared.img_per_s / gpus / (grown.img_per_s / gpus / grown.efficiency)
        points.append(Point(gpus, same, grown.efficiency, grown.img_per_s))
    return points


def _bound_by_host(setup: Setup, cluster: Cluster) -> list[str]:
    """Say of which phases a card executes operators faster than its host launches them."""
    bound = [
        f"{' + '.join(kind)} ({waits:.0%} of its time)"
        for kind, work in setup.works.items()
        if (waits := host_share(work, setup, cluster)) > 0.05
    ]
    return [f"the host launches operators more slowly than the card computes in {', '.join(bound)}"] * bool(bound)


def _notes(config: TrainingConfig, cluster: Cluster) -> list[str]:
    assumed = cluster.assumed
    products, memory, links = cluster.arithmetic_share, cluster.memory_share, assumed.bandwidth_share
    shares = f"Assumed: matrix products at {products:.0%} of its peak, bandwidths at {links:.0%}"
    if cluster.gpu.arithmetic_share is not None:
        shares = (
            f"Fitted to published speeds of other code: matrix products at {products:.0%} of its peak, its memory at "
            f"{memory:.0%}. Assumed: links at {links:.0%}"
        )
    when = "during the backward pass if the strategy overlaps them" if assumed.overlaps else "after the backward pass"
    notes = [
        f"nothing was measured on {cluster.gpu.name}. {shares}, {assumed.kernel_us:g} µs or more per operator, "
        f"{assumed.host_us:g} µs to launch one",
        f"messages by the alpha-beta model, with {assumed.link_latency_us:g} µs inside a node and "
        f"{assumed.network_latency_us:g} µs between nodes, {when}",
        f"memory is that of tensors, compared with {SHARE:.0%} of the card minus {CONTEXT / 2**30:g} GiB: without "
        "workspaces and fragmentation",
        "time is that of training: without evaluation, waiting for data, restarts",
    ]
    if "bf16" in config.precision and "bf16" not in cluster.gpu.tflops:
        notes.append(f"{cluster.gpu.name} has no bfloat16: planned at its peak in float32")
    if any(getattr(strategy_of(config.strategy, player), "offload_optimizer", False) for player in config.demands()):
        notes.append("Adam's time on the host is not counted")
    if config.init_from is not None:
        notes.append("planned as if init_from froze nothing")
    if config.deterministic:
        notes.append("planned as if deterministic algorithms of cuDNN and PyTorch were as fast as the others")
    if config.uncompiled() is not config:
        notes.append("planned as if it were not compiled")
    return notes

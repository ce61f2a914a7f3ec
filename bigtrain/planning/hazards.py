"""What hurts a run on many nodes beside the training itself, each with a number and the key that mends it."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bigtrain.config import TrainingConfig
from bigtrain.engine.stream_config import StreamConfig
from bigtrain.planning.hardware import Cluster
from bigtrain.planning.planner import Estimate, Planner
from bigtrain.strategies import strategy_of
from data_pipelines.remote import is_remote

_IMPORTS = 54_000
"""Calls of a parallel file system with which a process imports bigtrain and PyTorch (measured with strace)."""
_METADATA_PER_S = 50_000.0
"""Calls a second that a metadata server answers, assumed."""
_FIRST_TWO = 2.0
"""Processes of a node whose imports are not answered by the node's cache, assumed."""
_SHARD_IMAGES = 1000
_SAVE_SECONDS, _SAVES = 120.0, 3.0
"""Time that Slurm leaves a job to save, and how many times a save must fit into it; see `launch.slurm.settings`."""
_SCORED_PER_S = 500.0
"""Images a second and card through an extractor, assumed."""
_SLOW_START_S, _EVALUATION_SHARE, _AVERAGE_SHARE, _HOST_GIB = 60.0, 0.1, 0.2, 512.0
_GIB = 2.0**30


@dataclass(frozen=True)
class Hazard:
    """Something that will hurt.

    Attributes:
        what: in words, with the number.
        remedy: the key or option to set.
    """

    what: str
    remedy: str


def operations(
    config: TrainingConfig, planner: Planner, own: Estimate, cluster: Cluster, checkpoint: Mapping[str, float]
) -> dict[str, float]:
    """Return what a run takes beside its steps.

    Returns:
        `start_s`, importing from a parallel file system; `open_per_s`, shards that all ranks open; `fetch_per_s`,
        shards that all nodes fetch where the data are on a server, each by `nodes_a_shard` of them; `host_bytes`, of a
        node, while a checkpoint is loaded; `save_s`; `evaluation_s`, and `evaluation_share` of the time; `sockets`, of
        a rank and group of gloo.
    """
    lanes = min(stream.reading.lanes for stream in config.data.streams.values())
    shards_per_s = own.img_per_s * planner.batches_per_step / _SHARD_IMAGES
    nodes_a_shard = max(cluster.nodes / lanes, 1.0)
    stream = max(config.data.streams.values(), key=lambda one: one.reading.window)
    window = (
        stream.reading.window * _SHARD_IMAGES * cluster.world_size / config.global_batch
    )  # steps of one rank's images
    ranks_a_shard = max(min(cluster.world_size / lanes, window), 1.0)
    averages = max((sum(sizes) for sizes in planner.averaged.values()), default=0) * (1 + len(config.ema.profiles))
    tensors = [math.prod(shape) for sizes in planner.players.values() for shape in sizes.parameters.values()]
    samples = config.eval.samples
    evaluation = samples / (3 * own.img_per_s) + samples / (_SCORED_PER_S * cluster.world_size)
    between = config.eval.interval_kimg * 1000 / own.img_per_s
    return {
        "start_s": min(cluster.world_size, _FIRST_TWO * cluster.nodes) * _IMPORTS / _METADATA_PER_S,
        "open_per_s": shards_per_s * ranks_a_shard,
        "fetch_per_s": shards_per_s * nodes_a_shard,
        "nodes_a_shard": nodes_a_shard,
        # A network's averages are read as a whole; of weights and moments, a rank reads what it keeps, one by one.
        "host_bytes": max(averages, 4 * max(tensors, default=0)) * cluster.gpus_per_node,
        "save_s": checkpoint["write_s"],
        "evaluation_s": evaluation,
        "evaluation_share": evaluation / (between + evaluation) if between else 0.0,
        "sockets": 2.0 * math.ceil(math.log2(max(cluster.world_size, 2))) + 4,
    }


def find_hazards(
    config: TrainingConfig, own: Estimate, cluster: Cluster, operations: Mapping[str, float]
) -> list[Hazard]:
    """Return what will hurt: what keeps a run from starting, then what loses work, then what is slow."""
    return [
        *_start(cluster, operations),
        *_saving(operations),
        *_host(operations),
        *_reading(config, cluster, operations),
        *_sharding(config, own, cluster),
        *_evaluation(config, operations),
    ]


def _start(cluster: Cluster, operations: Mapping[str, float]) -> Iterator[Hazard]:
    if operations["start_s"] > _SLOW_START_S:
        yield Hazard(
            f"start: {cluster.world_size:,} ranks import from a parallel file system for about "
            f"{operations['start_s'] / 60:.0f} minutes, at each requeue",
            "bigtrain submit --container IMAGE.sif, a single file",
        )


def _saving(operations: Mapping[str, float]) -> Iterator[Hazard]:
    needed = math.ceil(_SAVES * operations["save_s"])
    if needed > _SAVE_SECONDS:
        yield Hazard(
            f"preemption: a checkpoint takes {operations['save_s']:.0f} s to write, but Slurm sends its warning "
            f"{_SAVE_SECONDS:.0f} s before the end",
            f"save_seconds: {needed} in the profile of bigtrain submit; ask the site for an equally long grace period",
        )


def _host(operations: Mapping[str, float]) -> Iterator[Hazard]:
    gib = operations["host_bytes"] / _GIB
    if gib > _HOST_GIB:
        yield Hazard(
            f"host memory: a node needs {gib:,.0f} GiB while it loads a checkpoint",
            "nodes with more memory; set mem in the profile of bigtrain submit",
        )


def _reading(config: TrainingConfig, cluster: Cluster, operations: Mapping[str, float]) -> Iterator[Hazard]:
    for name, stream in config.data.streams.items():
        place = f"data.streams.{name}" if name else "data"
        remote = any(map(is_remote, stream.paths))
        if remote and cluster.nodes > 1 and stream.cache.folder is None and "BIGTRAIN_CACHE" not in os.environ:
            yield Hazard(
                f"cache: {cluster.nodes} nodes write what they fetch to ~/.cache/bigtrain, which the nodes of a "
                "cluster usually share",
                f"{place}.cache.folder=FOLDER, on a disk of each node, or $BIGTRAIN_CACHE",
            )
        if stream.reading.lanes >= cluster.nodes or cluster.nodes == 1:
            continue
        if remote:
            nodes, rate = operations["nodes_a_shard"], operations["fetch_per_s"]
            what = f"each shard is fetched by {nodes:.0f} nodes, {rate:,.0f} GET/s"
        else:
            what = f"all ranks together open {operations['open_per_s']:,.0f} shards per second"
        yield Hazard(
            f"reading: {what}", f"{place}.lanes={lanes_for(config, stream, cluster.nodes)}, before the run begins"
        )


def lanes_for(config: TrainingConfig, stream: StreamConfig, nodes: int) -> int:
    """Return a number of lanes with which each node reads its part: a multiple of the nodes that divides the batch."""
    batch = config.global_batch
    multiples = [lanes for lanes in range(nodes, batch + 1, nodes) if batch % lanes == 0]
    divisors = [lanes for lanes in range(1, batch + 1) if batch % lanes == 0 and lanes >= nodes]
    return (multiples or divisors or [stream.reading.lanes])[0]


def _sharding(config: TrainingConfig, own: Estimate, cluster: Cluster) -> Iterator[Hazard]:
    for player in config.demands():
        settings = strategy_of(config.strategy, player)
        if settings.kind == "fsdp" and cluster.nodes > 1 and getattr(settings, "shard_ranks", None) is None:
            yield Hazard(
                f"strategy: {player} is gathered over {cluster.world_size:,} ranks in every phase",
                f"strategy.shard_ranks={cluster.gpus_per_node}, which gathers inside a node",
            )
    share = own.memory.average / (cluster.gpu.memory_gb * 1e9)
    if share > _AVERAGE_SHARE:
        yield Hazard(f"memory: the averages take {share:.0%} of every card", "fewer ema.profiles")


def _evaluation(config: TrainingConfig, operations: Mapping[str, float]) -> Iterator[Hazard]:
    share, seconds = operations["evaluation_share"], operations["evaluation_s"]
    if share > _EVALUATION_SHARE:
        yield Hazard(
            f"evaluation: {seconds:.0f} s each time, {share:.0%} of the run",
            "eval.max_share=0.05, or a longer eval.interval_kimg",
        )

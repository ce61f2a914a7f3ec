"""How long a step takes: operators on the card, messages between cards, and how much of these is hidden.

On the card an operator takes the longest of its arithmetic, its traffic with the card's memory and its start (the
roofline of Williams et al. 2009); a phase takes no less than PyTorch needs to launch its operators. Messages follow the
alpha-beta model of `collectives`. A bucket of gradients is sent as soon as its last gradient is done and the bucket
before it has been sent; what is still under way when the backward is over, the training waits for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigtrain.distributed.precision import Precision
from bigtrain.planning.collectives import seconds
from bigtrain.planning.counting import Kind
from bigtrain.planning.hardware import Cluster
from bigtrain.strategies.plans.base import Message, StrategyPlan
from bigtrain.strategies.plans.work import Work

_AVERAGE = 12
"""Bytes that the average moves a weight: read and written in float32."""


@dataclass(frozen=True)
class Setup:
    """What is computed, and how it is cut.

    Attributes:
        works: a micro-batch of each kind of phase.
        often: how often a step has it.
        micro_batch: images of a micro-batch.
        accumulation: micro-batches a step and rank.
        precision: of the run.
        tf32: whether float32 products may be rounded.
        averaged: bytes of the weights of each player's networks that are averaged.
        averages: how many averages each of them has.
    """

    works: Mapping[Kind, Work]
    often: Mapping[Kind, float]
    micro_batch: int
    accumulation: int
    precision: Precision
    tf32: bool
    averaged: Mapping[str, int]
    averages: int = 1

    @property
    def flops(self) -> float:
        """Floating-point operations of a step on one rank."""
        one = sum(often * float(self.works[kind].flops.sum()) for kind, often in self.often.items())
        return one * self.accumulation


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step.

    Attributes:
        compute: operators of all phases.
        update: the optimizers and the average.
        waiting: messages that are not hidden.
        sending: all messages, one after the other.
    """

    compute: float
    update: float
    waiting: float
    sending: float

    @property
    def total(self) -> float:
        """All that counts."""
        return self.compute + self.update + self.waiting


def step_time(setup: Setup, players: Mapping[str, StrategyPlan], cluster: Cluster) -> StepTime:
    """Return the time of a mean step."""
    compute = waiting = sending = 0.0
    for kind, often in setup.often.items():
        work = setup.works[kind]
        times = operator_seconds(work, setup, cluster)
        compute += often * float(times.sum()) * setup.accumulation
        for message in phase_messages(work, players, setup):
            sending += often * message_seconds(message, cluster)
        waiting += often * _waiting(work, times, players, setup, cluster)
    between = step_messages(players, setup)
    waiting += sum(message_seconds(message, cluster) for message in between)
    sending += sum(message_seconds(message, cluster) for message in between)
    bandwidth = cluster.gpu.bandwidth_gb_s * 1e9 * cluster.memory_share
    moved = sum(player.updated() for player in players.values())
    moved += _AVERAGE * setup.averages * sum(setup.averaged.values()) / 4
    return StepTime(compute, moved / bandwidth, waiting, sending)


def phase_messages(work: Work, players: Mapping[str, StrategyPlan], setup: Setup) -> list[Message]:
    """Return all messages of a phase, in order."""
    own = players[work.player]
    gradients = _gradients(work, own) * (own.accumulation if own.every_time else 1)
    rivals = [m for name, rival in players.items() if name != work.player for m in rival.whole(f"{name} for its rival")]
    statistics = [Message("statistics", "all_reduce", size) for size in work.statistics] * setup.accumulation
    messages = [*rivals, *own.of_weights(second_order=work.second_order), *statistics, *gradients, *own.of_step()]
    return messages if own.ranks > 1 else []


def step_messages(players: Mapping[str, StrategyPlan], setup: Setup) -> list[Message]:
    """Return the messages after the phases: whole weights for the average, and averages that steer terms."""
    if all(player.ranks == 1 for player in players.values()):
        return []
    whole = [message for name in setup.averaged for message in players[name].whole(f"{name} for the average")]
    return [*whole, Message("averages", "all_reduce", 16)]


def message_seconds(message: Message, cluster: Cluster) -> float:
    """Return the time of a message among the ranks that it is for."""
    return seconds(message.kind, message.size, _those_of(message, cluster))


def operator_seconds(work: Work, setup: Setup, cluster: Cluster) -> NDArray[np.float64]:
    """Return the time of each operator of a micro-batch."""
    gpu, assumed = cluster.gpu, cluster.assumed
    short = gpu.peak("fp16") if setup.precision == "fp16" else gpu.peak("bf16")
    wide = gpu.peak("tf32") if setup.tf32 else gpu.peak()
    peak = np.where(work.reduced, short, wide) * cluster.arithmetic_share
    memory = work.bytes / (gpu.bandwidth_gb_s * 1e9 * cluster.memory_share)
    device = np.maximum(np.maximum(work.flops / peak, memory), assumed.kernel_us * 1e-6)
    host = len(device) * assumed.host_us * 1e-6
    times: NDArray[np.float64] = device * max(1.0, host / max(device.sum(), 1e-12))
    return times


def host_share(work: Work, setup: Setup, cluster: Cluster) -> float:
    """Return the share of a micro-batch's time in which the card waits for its host to launch something."""
    total = float(operator_seconds(work, setup, cluster).sum())
    launched = len(work.flops) * cluster.assumed.host_us * 1e-6
    if launched < total * (1 - 1e-9) or not total:
        return 0.0
    free = replace(cluster, assumed=cluster.assumed.model_copy(update={"host_us": 0.0}))
    return 1 - float(operator_seconds(work, setup, free).sum()) / total


def _waiting(
    work: Work, times: NDArray[np.float64], players: Mapping[str, StrategyPlan], setup: Setup, cluster: Cluster
) -> float:
    """Return the time that a phase waits for messages."""
    own = players[work.player]
    overlaps = cluster.assumed.overlaps
    alone = [message for message in phase_messages(work, players, setup) if message.after is None or not overlaps]
    exposed = sum(message_seconds(message, cluster) for message in alone)
    if own.ranks == 1 or not overlaps:
        return exposed
    done = np.concatenate([[0.0], np.cumsum(times)])
    free, end = 0.0, float(done[-1])
    for message in _gradients(work, own):
        if message.after is not None:
            ready = float(done[work.arrivals[message.after - 1][0]]) if message.after else end
            free = max(free, ready) + message_seconds(message, cluster)
    return exposed + max(free - end, 0.0) * (own.accumulation if own.every_time else 1)


def _gradients(work: Work, own: StrategyPlan) -> list[Message]:
    return own.of_gradients([name for _, name in work.arrivals])


def _those_of(message: Message, cluster: Cluster) -> Cluster:
    """Return the ranks that take part in a message, as a cluster."""
    if not message.ranks:
        return cluster
    cards = max(min(cluster.gpus_per_node // message.stride, message.ranks), 1)
    network = cluster.network * cards / cluster.gpus_per_node  # the other cards talk at the same time
    return replace(cluster, nodes=max(message.ranks // cards, 1), gpus_per_node=cards, network=network)


def summed(messages: Sequence[tuple[Message, float]]) -> list[dict[str, Any]]:
    """Return what a step sends by purpose and kind: how many messages, and their bytes together."""
    totals: dict[tuple[str, str, bool], list[float]] = {}
    for message, often in messages:
        entry = totals.setdefault((message.what, message.kind, message.counted), [0.0, 0.0])
        entry[0] += often
        entry[1] += often * message.size
    return [
        {"what": what, "kind": kind, "counted": counted, "messages": count, "bytes": size}
        for (what, kind, counted), (count, size) in totals.items()
    ]

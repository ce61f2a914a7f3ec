"""One step of training.

The trainer, tests and benchmarks call `take_step`. `micro_batch: auto`, plans and benchmarks of memory, which look at
one phase, call `compute_gradients`, which it is made of.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from bigtrain.core.batch import Batch
from bigtrain.core.state import Progress
from bigtrain.engine.ema import EMA
from bigtrain.engine.player import Phase, Rivals, Stats
from bigtrain.engine.strategy import GradientSource, Strategy
from bigtrain.engine.task import Task


class Spans:
    """Context managers around the parts of a step, to time, count or watch them; this class does nothing."""

    def phase(self, phase: Phase) -> AbstractContextManager[None]:
        """Surround a phase: all its micro-batches and the optimizer's step."""
        return nullcontext()

    def micro_batch(self, phase: Phase) -> AbstractContextManager[None]:
        """Surround a micro-batch of a phase: its loss and the backward pass."""
        return nullcontext()


NO_SPANS = Spans()


@dataclass
class StepResult:
    """The statistics of a step; tensors stay on the device, so that reading them later does not stall the step.

    Attributes:
        stats: every observation of each number by name: one a micro-batch, or one a phase.
        skipped: for each phase in order, 1 where its gradient was not finite and the weights stayed, else 0.
    """

    stats: list[Mapping[str, Tensor | float]] = field(default_factory=list)
    skipped: list[tuple[Phase, Tensor]] = field(default_factory=list)


def take_step(
    task: Task,
    strategies: Mapping[str, Strategy],
    batches: Sequence[Batch],
    progress: Progress,
    *,
    micro_batch: int,
    global_batch: int,
    averages: Mapping[str, EMA] | None = None,
    lr_factor: float = 1.0,
    spans: Spans = NO_SPANS,
) -> StepResult:
    """Update the players phase by phase, then the averages of their weights, and count the step. Collective.

    Args:
        task: whose players are updated.
        strategies: of the players, by name.
        batches: this rank's shares of `task.batches_per_step` global batches.
        progress: before the step; it is advanced.
        micro_batch: samples that are computed at once.
        global_batch: samples of a batch over all ranks.
        averages: of the task's averaged networks, by name.
        lr_factor: multiplies the learning rates.
        spans: surround the parts of the step.
    """
    result = StepResult()
    task.before_step(progress)
    for phase in task.phases(progress):
        with spans.phase(phase):
            result.stats += compute_gradients(task, strategies, phase, batches[phase.batch], micro_batch, spans=spans)
            settings = task.optimizers[phase.player].settings_at(
                progress.samples_seen, progress.total, global_batch=global_batch
            )
            settings["lr"] *= lr_factor
            moved = strategies[phase.player].step(settings)
        result.skipped.append((phase, moved["skipped_step"]))
        result.stats.append({f"{name}/{phase.name}": value for name, value in moved.items()})
        result.stats.append({f"lr/{phase.player}": settings["lr"]})
    if averages:
        update_averages(task, strategies, averages, progress)
        result.stats.append({"ema/half_life_kimg": next(iter(averages.values())).half_life(progress) / 1000})
    progress.advance()
    result.stats.append(task.after_step(progress))
    return result


def compute_gradients(
    task: Task,
    sources: Mapping[str, GradientSource],
    phase: Phase,
    batch: Batch,
    micro_batch: int,
    *,
    spans: Spans = NO_SPANS,
) -> list[Stats]:
    """Compute the gradients of a phase on a batch, by micro-batches; return the statistics of each. Collective."""
    source, rivals = sources[phase.player], freeze_rivals(sources, phase.player)
    stats = []
    for part, last in batch.micro_batches(micro_batch, task.group):
        with spans.micro_batch(phase):
            loss, observed = source.loss(phase, part, rivals, last_micro=last)
            source.backward(loss)
        stats.append(observed)
    return stats


def freeze_rivals(sources: Mapping[str, GradientSource], player: str) -> Rivals:
    """Freeze all players but one, and return the networks of the others. Collective where weights are sharded."""
    networks: dict[str, Callable[..., Any]] = {}
    for name, source in sources.items():
        source.set_trainable(name == player)
        if name != player:
            networks.update(source.infer())
    return networks


def update_averages(
    task: Task, strategies: Mapping[str, Strategy], averages: Mapping[str, EMA], progress: Progress
) -> None:
    """Move each average towards its network after a step, before the step is counted. Collective where sharded."""
    by_player: dict[str, list[tuple[str, EMA]]] = {}
    for name, average in averages.items():
        player, key = task.owner_of(task.averaged[name])
        by_player.setdefault(player, []).append((f"{key}.", average))
    for player, owned in by_player.items():
        live = list(strategies[player].full_params()) if len(owned) > 1 else strategies[player].full_params()
        for prefix, average in owned:
            average.update(without_prefix(live, prefix), progress)


def without_prefix(named: Iterable[tuple[str, Tensor]], prefix: str) -> Iterable[tuple[str, Tensor]]:
    """Iterate over the tensors whose names begin with `prefix`, by the rest of their names."""
    return ((name.removeprefix(prefix), value) for name, value in named if name.startswith(prefix))

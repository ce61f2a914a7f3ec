"""The kinds of phases that a run has, and how often each comes."""

import math
from collections import Counter
from typing import Any

from bigtrain.core.state import Progress
from bigtrain.engine.player import Phase, Player
from bigtrain.engine.task import Task

_PERIOD = 4096
"""Steps after which the phases that are due are taken to repeat, if not before."""

Kind = tuple[str, ...]
"""A kind of phase: its name and the terms that are due."""


def kinds_of_phases(task: Task, progress: Progress) -> dict[Kind, tuple[Phase, float]]:
    """Return every kind of phase of a run: one of them, and how often a step has it.

    A run may begin without a part of its game, which joins later. So the kinds are those of its first and of its last
    steps, and how often each comes is that of the last ones: a kind of the first steps alone comes 0 times.

    Args:
        task: of the run.
        progress: for the length of the run and of a step.
    """
    period = period_of(task)
    phases: dict[Kind, Phase] = {}
    counts: Counter[Kind] = Counter()
    for place in (Progress(progress.total, progress.batch), last_period(task, progress)):
        counts.clear()
        for _ in range(period):
            for phase in task.phases(place):
                kind = phase_kind(task, phase)
                phases[kind] = phase  # the later one has all of its loss
                counts[kind] += 1
            place.advance()
    return {kind: (phase, counts[kind] / period) for kind, phase in phases.items()}


def phase_kind(task: Task, phase: Phase) -> Kind:
    """Return the kind of a phase."""
    terms = terms_of(task.players[phase.player])
    return (phase.name, *sorted(name for name in terms if name in phase.values))


def period_of(task: Task) -> int:
    """Return the number of steps after which the same terms are due again, by their intervals."""
    intervals = [term.interval for player in task.players.values() for term in terms_of(player).values()]
    return min(math.lcm(*intervals), _PERIOD) if intervals else 1


def last_period(task: Task, progress: Progress) -> Progress:
    """Return the place where the last whole period of a run begins, or the run: every lazy term is due there."""
    period, steps = period_of(task), progress.total // progress.batch
    place = Progress(progress.total, progress.batch)
    place.samples_seen = max(steps - period, 0) // period * period * progress.batch
    return place


def terms_of(player: Player) -> dict[str, Any]:
    """Return a player's terms by name."""
    return dict(getattr(player, "terms", {}))

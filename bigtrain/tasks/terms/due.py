"""Which terms a step computes, with which weights, and what they ask of the players' strategies."""

from collections.abc import Mapping
from typing import Any

from bigtrain.core.state import Progress
from bigtrain.engine.strategy import Capability
from bigtrain.models.pretrained import FeatureMaps
from bigtrain.tasks.terms.base import Term

Due = Mapping[str, tuple[Any, float]]
"""Terms that are due, with their weights, by name."""


def due_weights(
    player: str, terms: Mapping[str, Term], progress: Progress, *, update: int | None = None
) -> dict[str, float]:
    """Return the weights of the terms that are due in a player's next update.

    A term that pauses is left out while its weight is 0, unless no other one is due. The others are computed then as
    well: they may have weights of their own, whose gradients ranks wait for, or keep averages.

    Args:
        player: `D` or `G`: the side of a term that moves both.
        terms: of the player's loss.
        progress: where the run is.
        update: number of the player's update; None where it has one a step.
    """
    number = progress.step if update is None else update
    due = {name: term for name, term in terms.items() if number % term.interval == 0}
    now = (progress.samples_seen, progress.total)
    weights = {name: term.interval * term.weight_at(player, *now) for name, term in due.items()}
    needed = {name: weight for name, weight in weights.items() if weight or not due[name].pauses}
    return needed or weights


def due_terms(terms: Mapping[str, Any], values: Mapping[str, float]) -> Due:
    """Return the terms that a phase has a weight for."""
    return {name: (term, values[name]) for name, term in terms.items() if name in values}


def is_second_order(due: Due) -> bool:
    """Tell whether one of the terms differentiates a gradient."""
    return any(term.second_order for term, _ in due.values())


def demands_of(terms: Mapping[str, Term], *, compiled: bool = False, key: str = "") -> dict[Capability, str]:
    """Return what a player's loss asks of its strategy, and the keys that ask it.

    Args:
        terms: of the loss.
        compiled: whether the networks are compiled.
        key: what the keys of the objective begin with.
    """
    twice = [f"{key}objective.terms.{name}" for name, term in terms.items() if term.second_order]
    demands: dict[Capability, str] = {"double_backward": " and ".join(twice)} if twice else {}
    return {**demands, "compile": "compile"} if compiled else demands


def frozen_of(terms: Mapping[str, Term]) -> dict[str, FeatureMaps]:
    """Return the networks, not loaded yet, that terms look through and nobody trains, by the names of the terms."""
    found = {name: term.frozen() for name, term in terms.items()}
    return {name: maps for name, maps in found.items() if maps is not None}

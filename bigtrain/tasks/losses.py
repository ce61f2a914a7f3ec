"""The losses of a game and its terms, shared by the tasks that play it."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from bigtrain.engine.player import Stats
from bigtrain.objectives.adversarial import Game
from bigtrain.tasks.terms import DiscriminatorStep, GeneratorStep

Due = Mapping[str, tuple[Any, float]]
"""Terms that are due, with their weights, by name."""


def discriminator_loss(
    step: DiscriminatorStep,
    game: Game,
    due: Due,
    *,
    weight: float = 1.0,
    observe: Callable[[Tensor], None] = lambda signs: None,
) -> tuple[Tensor, Stats]:
    """Return D's loss on a micro-batch, the due terms folded in, and what to log.

    Args:
        step: the micro-batch.
        game: gives the loss of logits.
        due: discriminator terms.
        weight: multiplies the game's loss.
        observe: is told the signs of D's logits of real samples.
    """
    for images in {images for term, _ in due.values() for images in term.differentiates}:
        getattr(step, images).requires_grad_()
    loss = game.discriminator(step.real_logits, step.fake_logits).mean()
    real_signs = signs(step.real_logits, game)
    observe(real_signs)
    stats = {
        "loss/d_main": loss.detach(),
        "logits/real_mean": step.real_logits.detach().mean(),
        "logits/fake_mean": step.fake_logits.detach().mean(),
        "signs/real": real_signs.mean(),
    }
    loss = loss if weight == 1.0 else weight * loss
    for name, (term, factor) in due.items():
        value = term.in_discriminator(step).mean()
        loss = loss + factor * value
        stats[f"reg/{name}"] = value.detach()
    return loss, stats


def generator_loss(
    step: GeneratorStep,
    game: Game,
    due: Due,
    *,
    weight: float = 1.0,
    chosen: Callable[[Tensor], Tensor | slice] = lambda logits: slice(None),
    both: frozenset[str] = frozenset(),
) -> tuple[Tensor, Stats]:
    """Return G's loss on a micro-batch, the due terms folded in, and what to log.

    Args:
        step: the micro-batch.
        game: gives the loss of logits.
        due: generator terms.
        weight: multiplies the game's loss.
        chosen: from D's logits, which samples G learns from in the game.
        both: names of terms that move D as well, which are logged apart.
    """
    logits = step.fake_logits
    loss = game.generator_loss(lambda: step.real_logits, logits)[chosen(logits)].mean()
    stats = {"loss/g_main": loss.detach(), "signs/fake": signs(logits, game).mean()}
    loss = loss if weight == 1.0 else weight * loss
    for name, (term, factor) in due.items():
        value = term.in_generator(step).mean()
        loss = loss + factor * value
        stats[f"reg/{name}_g" if name in both else f"reg/{name}"] = value.detach()
    return loss, stats


def signs(logits: Tensor, game: Game) -> Tensor:
    """Return on which side of the game's neutral value logits are: -1, 0 or 1."""
    return (logits.detach() - (game.neutral or 0.0)).sign()


def due_terms(terms: Mapping[str, Any], values: Mapping[str, float]) -> dict[str, tuple[Any, float]]:
    """Return the terms that a phase has a weight for."""
    return {name: (term, values[name]) for name, term in terms.items() if name in values}

"""The losses of a game and its terms, shared by the tasks that play it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from bigtrain.engine.player import Stats
from bigtrain.objectives.adversarial import Game
from bigtrain.tasks.terms import DiscriminatorLossContext, Due, GeneratorLossContext


def discriminator_loss(
    context: DiscriminatorLossContext,
    game: Game,
    due: Due,
    *,
    weight: float = 1.0,
    observe: Callable[[Tensor], None] = lambda signs: None,
) -> tuple[Tensor, Stats]:
    """Return D's loss on a micro-batch, the due terms folded in, and what to log.

    Args:
        context: the micro-batch.
        game: gives the loss of logits.
        due: discriminator terms.
        weight: multiplies the game's loss.
        observe: called with the signs of D's logits of real samples.
    """
    for images in {images for term, _ in due.values() for images in term.differentiates}:
        getattr(context, images).requires_grad_()
    loss = context.mean(game.discriminator(context.real_logits, context.fake_logits))
    real_signs = signs(context.real_logits, game)
    observe(real_signs)
    stats = {
        "loss/d_main": loss.detach(),
        "logits/real_mean": context.real_logits.detach().mean(),
        "logits/fake_mean": context.fake_logits.detach().mean(),
        "signs/real": real_signs.mean(),
    }
    loss = loss if weight == 1.0 else weight * loss
    for name, (term, factor) in due.items():
        loss = loss + factor * _noted(term.in_discriminator(context), stats, f"reg/{name}")
    return loss, stats


def generator_loss(
    context: GeneratorLossContext,
    game: Game,
    due: Due,
    *,
    weight: float | None = 1.0,
    chosen: Callable[[Tensor], Tensor | slice] = lambda logits: slice(None),
    both: frozenset[str] = frozenset(),
) -> tuple[Tensor, Stats]:
    """Return G's loss on a micro-batch, the due terms folded in, and what to log.

    Args:
        context: the micro-batch.
        game: gives the loss of logits.
        due: generator terms.
        weight: multiplies the game's loss; None where the game is not played.
        chosen: from D's logits, which samples G learns from in the game.
        both: names of terms that move D as well, which are logged apart.
    """
    loss: Tensor | None = None
    stats: Stats = {}
    if weight is not None:
        logits = context.fake_logits
        loss = context.mean(game.generator_loss(lambda: context.real_logits, logits)[chosen(logits)])
        stats = {"loss/g_main": loss.detach(), "signs/fake": signs(logits, game).mean()}
        loss = loss if weight == 1.0 else weight * loss
    for name, (term, factor) in due.items():
        part = factor * _noted(term.in_generator(context), stats, f"reg/{name}_g" if name in both else f"reg/{name}")
        loss = part if loss is None else loss + part
    assert loss is not None, "a phase of G plays a game or has a term that is due"
    return loss, stats


def _noted(values: Tensor, stats: Stats, name: str) -> Tensor:
    """Return the mean of a term, and note it under a name."""
    mean = values.mean()
    stats[name] = mean.detach()
    return mean


def signs(logits: Tensor, game: Game) -> Tensor:
    """Return on which side of the game's neutral value logits are: -1, 0 or 1."""
    return (logits.detach() - (game.neutral or 0.0)).sign()


@contextmanager
def buffers_restored(network: Any) -> Iterator[None]:
    """Put a network's buffers back after a block, such as statistics that a forward moves."""
    before = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)

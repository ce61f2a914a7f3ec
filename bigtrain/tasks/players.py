"""The two players of image synthesis: each computes all of its loss in its forward."""

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from bigtrain.augment import Augment, Probability
from bigtrain.core.batch import Batch
from bigtrain.core.rng import Draws
from bigtrain.engine.averages import Averages
from bigtrain.engine.player import Phase, Player, Rivals, Stats
from bigtrain.models import Discriminator, Generator
from bigtrain.tasks.compiled import Compiler
from bigtrain.tasks.losses import discriminator_loss, generator_loss
from bigtrain.tasks.objective import ObjectiveConfig
from bigtrain.tasks.sampling import sample
from bigtrain.tasks.terms import (
    DiscriminatorLossContext,
    GeneratorLossContext,
    LossContext,
    due_terms,
    is_second_order,
)
from bigtrain.tasks.unrolled import unrolled

ContextT = TypeVar("ContextT", bound=LossContext)


class DiscriminatorView:
    """What a discriminator is shown of images: augmented, then with instance noise.

    Args:
        augment: see `bigtrain.augment`.
        probability: of the augmentation, as it is now.
    """

    def __init__(self, augment: Augment, probability: Probability) -> None:
        self.augment, self.probability = augment, probability

    def show(self, image: Tensor, draws: Draws, *, noise: float) -> Tensor:
        """Return what D gets to see of `image`; `noise` is a standard deviation."""
        seen = self.augment(image, draws.of("augment"), self.probability.p)
        return seen + noise * draws.of("noise").normal(*seen.shape[1:]) if noise else seen

    def present(self, real: Tensor, fake: Tensor, draws: Draws) -> Tensor:
        """Return the images that D is trained to call real."""
        return self.augment.present(real, fake, draws.of("present"), self.probability.p)


class SynthesisPlayer(Player):
    """Base class of G and D.

    Args:
        objective: the game and its terms.
        view: what D is shown of images.
        averages: moving averages that steer terms.
        compiler: of the networks.
        field: what is generated.
        condition: field that both networks are given; samples may have none.
    """

    terms: Mapping[str, Any]

    def __init__(
        self,
        objective: ObjectiveConfig,
        view: DiscriminatorView,
        averages: Averages,
        compiler: Compiler,
        field: str = "image",
        condition: str = "class",
    ) -> None:
        super().__init__()
        self.field, self.condition = field, condition
        self.objective, self.game = objective, objective.game
        self.view, self.averages, self.compiler = view, averages, compiler

    def context(self, kind: type[ContextT], phase: Phase, batch: Batch, rivals: Rivals) -> ContextT:
        """Return a micro-batch as the phase's loss and terms look at it."""
        twice = is_second_order(due_terms(self.terms, phase.values))
        ahead = kind is GeneratorLossContext and self.objective.unrolled is not None
        networks: dict[str, Any] = self.compiler({**self.networks(), **rivals}, second_order=twice or ahead)
        G, D = networks.pop("G"), networks.pop("D")
        draws, label = batch.draws.of(phase.name), batch.label(self.condition)

        def generate(z: Tensor | None = None) -> Tensor:
            z = draws.of("z").normal(G.z_dim) if z is None else z
            return sample(G, z, label, draws, style_mixing=self.objective.style_mixing)

        def show(image: Tensor, own: Draws) -> Tensor:
            seen: Tensor = D.draw_view(self.view.show(image, own, noise=phase.values.get("instance_noise", 0.0)), own)
            return seen

        return kind(
            G=G,
            D=D,
            parts=networks,
            label=label,
            condition=label,
            draws=draws,
            real=D.as_generated(batch[self.field]),
            generate=generate,
            show=show,
            averages=self.averages,
            style_mixing=self.objective.style_mixing,
        )


class DiscriminatorPlayer(SynthesisPlayer):
    """The discriminator; see SynthesisPlayer for the arguments."""

    def __init__(
        self,
        network: Discriminator,
        objective: ObjectiveConfig,
        view: DiscriminatorView,
        averages: Averages,
        compiler: Compiler,
        field: str = "image",
        condition: str = "class",
    ) -> None:
        super().__init__(objective, view, averages, compiler, field, condition)
        self.D = network
        self.terms = objective.terms.of_discriminator()
        for name, term in self.terms.items():
            part = term.part(network)
            if part is not None:
                self.add_module(name, part)

    def forward(self, phase: Phase, batch: Batch, rivals: Rivals) -> tuple[Tensor, Stats]:
        """Return D's loss on the batch and as many fakes, the due terms folded in."""
        context = self.context(DiscriminatorLossContext, phase, batch, rivals)
        context.real = self.view.present(context.real, context.fake, context.draws).detach()
        observe = partial(self.averages.observe, "signs/real", decay=0.0)
        return discriminator_loss(context, self.game, due_terms(self.terms, phase.values), observe=observe)


class GeneratorPlayer(SynthesisPlayer):
    """The generator; see SynthesisPlayer for the arguments."""

    def __init__(
        self,
        network: Generator,
        objective: ObjectiveConfig,
        view: DiscriminatorView,
        averages: Averages,
        compiler: Compiler,
        field: str = "image",
        condition: str = "class",
    ) -> None:
        super().__init__(objective, view, averages, compiler, field, condition)
        self.G = network
        self.terms = objective.terms.of_generator()

    def forward(self, phase: Phase, batch: Batch, rivals: Rivals) -> tuple[Tensor, Stats]:
        """Return G's loss on one fake a sample of the batch, with that sample's label, the due terms folded in."""
        context = self.context(GeneratorLossContext, phase, batch, rivals)
        if self.objective.unrolled is not None:
            self._look_ahead(context)
        return generator_loss(
            context,
            self.game,
            due_terms(self.terms, phase.values),
            chosen=partial(most_real, share=phase.values.get("top_k", 1.0)),
            both=frozenset(self.objective.terms.of_discriminator()),
        )

    def _look_ahead(self, context: GeneratorLossContext) -> None:
        """Replace D's logits by those of a later D."""
        ahead = self.objective.unrolled
        assert ahead is not None
        logits_of = unrolled(
            context.D, self.game, context.real_shown, context.fake_shown, context.label, steps=ahead.steps, lr=ahead.lr
        )
        context.fake_logits = logits_of(context.fake_shown)
        if self.game.relativistic:
            context.real_logits = logits_of(context.real_shown)


def most_real(logits: Tensor, share: float) -> Tensor | slice:
    """Select the share of a micro-batch that D likes best, at least one (Sinha et al. 2020, algorithm 1).

    Args:
        logits: of fakes, shape [N] or [N, K].
        share: in [0, 1].

    Returns:
        What to index the losses with.
    """
    if share >= 1:
        return slice(None)
    score = logits.detach().reshape(len(logits), -1).mean(1)
    return torch.topk(score, max(round(share * len(score)), 1)).indices

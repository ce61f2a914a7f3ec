"""Unrolled games: G plays against the D of some steps later (Metz et al. 2017, section 2.2)."""

from torch import Tensor
from torch.func import functional_call

from bigtrain.models import Discriminator
from bigtrain.objectives.adversarial import Game
from bigtrain.objectives.regularizers import LogitsFunction
from bigtrain.ops.precision import gradients_of


def unrolled(
    discriminator: Discriminator, game: Game, real: Tensor, fake: Tensor, label: Tensor, *, steps: int, lr: float
) -> LogitsFunction:
    """Let D take gradient steps on one micro-batch, and return that later D.

    θ₀ = θ, θₖ₊₁ = θₖ - lr · ∇ L_D(θₖ) (equation 7), plain descent on copies of D's weights. The gradient of what the
    later D says flows back into `fake` through the steps too (equation 10), which is the point of it.

    Args:
        discriminator: whole and frozen in this process; its weights do not change.
        game: gives L_D.
        real: what D sees of reals, shape [N, C, H, W].
        fake: of fakes, attached to G.
        label: int64, shape [N].
        steps: how many.
        lr: their size.

    Returns:
        The later D: images with these labels to logits.
    """
    weights = {name: value.detach().clone().requires_grad_() for name, value in discriminator.named_parameters()}

    def logits_of(image: Tensor) -> Tensor:
        logits: Tensor = functional_call(discriminator, weights, (image, label))
        return logits

    for _ in range(steps):
        loss = game.discriminator(logits_of(real), logits_of(fake)).mean()
        slopes = gradients_of(loss, list(weights.values()), create_graph=True)
        weights = {name: value - lr * slope for (name, value), slope in zip(weights.items(), slopes, strict=True)}
    return logits_of

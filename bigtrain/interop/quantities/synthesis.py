"""Networks from latents to images: how each number of a golden folder is computed, as its README says."""

import math
import re
from collections.abc import Callable
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.interop.quantities.base import Quantities
from bigtrain.objectives.adversarial import hinge_d, hinge_g, non_saturating_d, non_saturating_g
from bigtrain.objectives.regularizers import r1_penalty
from bigtrain.ops.precision import gradients_of


class SynthesisQuantities(Quantities):
    """Numbers of networks from latents to images, and of their discriminators.

    Inputs: latents, class labels (one-hot or index), real images, noise of the path length.
    """

    inputs = frozenset({"z", "c", "y", "real", "pl_noise"})

    def output(self, name: str) -> Tensor | None:
        """See `Quantities.output`."""
        if name in _OUTPUTS:
            return _OUTPUTS[name](self)
        truncated = re.fullmatch(r"img_psi(\d)(\d*)", name)
        return self.generate(truncation=float(f"{truncated[1]}.{truncated[2] or 0}")) if truncated else None

    def penalty(self, name: str) -> Tensor | None:
        """See `Quantities.penalty`."""
        return _PENALTIES[name](self) if name in _PENALTIES else None

    def loss(self, name: str) -> Tensor | None:
        """See `Quantities.loss`."""
        return _LOSSES[name](self) if name in _LOSSES else None

    def generate(self, truncation: float = 1.0) -> Tensor:
        """Generate the images."""
        image: Tensor = self.network("G")(self.given("z"), self.label, truncation=truncation)
        return image

    def logits_of(self, image: Tensor) -> Tensor:
        """Return D's logits."""
        logits: Tensor = self.network("D")(image, self.label)
        return logits

    @cached_property
    def label(self) -> Tensor:
        """Class weights or indices; without classes, whatever."""
        if "c" in self._io or "y" in self._io:
            return self._io["c"] if "c" in self._io else self._io["y"]
        return torch.zeros(len(self.given("real")), dtype=torch.int64, device=self.given("real").device)

    @cached_property
    def fake(self) -> Tensor:
        """G's images, attached to its weights."""
        return self.generate()

    @cached_property
    def real(self) -> Tensor:
        """The real images, to be differentiated by."""
        return self.given("real").requires_grad_()

    @cached_property
    def fixed_fake(self) -> Tensor:
        """G's images as D's loss sees them, to be differentiated by."""
        return self.fake.detach().requires_grad_()

    @cached_property
    def real_logits(self) -> Tensor:
        """D's logits of the real images."""
        return self.logits_of(self.real)

    @cached_property
    def fake_logits(self) -> Tensor:
        """D's logits of G's images, attached to both."""
        return self.logits_of(self.fake)

    @cached_property
    def fixed_fake_logits(self) -> Tensor:
        """D's logits of G's images, attached to D only."""
        return self.logits_of(self.fixed_fake)

    @cached_property
    def r1(self) -> Tensor:
        """The gradient penalty on the real images."""
        return r1_penalty(self.real_logits, self.real)

    @cached_property
    def r2(self) -> Tensor:
        """The gradient penalty on G's images."""
        return r1_penalty(self.fixed_fake_logits, self.fixed_fake)

    @cached_property
    def ws(self) -> Tensor:
        """The styles."""
        styles: Tensor = self.network("G").styles(self.given("z"), self.label)  # type: ignore[operator]
        return styles

    @cached_property
    def path_lengths(self) -> Tensor:
        """How far an image moves with its styles (Karras et al. 2020a, section 3.2)."""
        noise = self.given("pl_noise")
        image = self.network("G").synthesize(self.ws)  # type: ignore[operator]
        along = (image * noise).sum() / math.sqrt(noise.shape[2] * noise.shape[3])
        (gradient,) = gradients_of(along, [self.ws], create_graph=True)
        return gradient.square().sum(2).mean(1).sqrt()


_OUTPUTS: dict[str, Callable[[SynthesisQuantities], Tensor]] = {
    "ws": lambda given: given.ws,
    "img": lambda given: given.fake,
    "logits_real": lambda given: given.real_logits,
    "logits_fake": lambda given: given.fake_logits,
}

_PENALTIES: dict[str, Callable[[SynthesisQuantities], Tensor]] = {
    "r1_penalty": lambda given: given.r1,
    "r2_penalty": lambda given: given.r2,
    "pl_lengths": lambda given: given.path_lengths,
}

_LOSSES: dict[str, Callable[[SynthesisQuantities], Tensor]] = {
    "D_r1": lambda given: given.setting("r1_gamma") / 2 * given.r1.mean(),
    "D_nonsaturating": lambda given: non_saturating_d(given.real_logits, given.fixed_fake_logits).mean(),
    "D_hinge": lambda given: hinge_d(given.real_logits, given.fixed_fake_logits).mean(),
    "D_relativistic_r1_r2": lambda given: (
        F.softplus(given.fixed_fake_logits - given.real_logits) + given.setting("gamma") / 2 * (given.r1 + given.r2)
    ).mean(),
    "G_nonsaturating": lambda given: non_saturating_g(given.fake_logits).mean(),
    "G_hinge": lambda given: hinge_g(given.fake_logits).mean(),
    "G_relativistic": lambda given: F.softplus(given.real_logits - given.fake_logits).mean(),
    "G_pl_mean0": lambda given: given.path_lengths.square().mean(),
}

"""What a golden folder may hold: how each number is computed, as its README says."""

import math
import re
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigtrain.interop.errors import InteropError
from bigtrain.interop.golden import Golden
from bigtrain.objectives.adversarial import hinge_d, hinge_g, non_saturating_d, non_saturating_g
from bigtrain.objectives.regularizers import r1_penalty
from bigtrain.ops.precision import gradients_of

INPUTS = frozenset({"z", "c", "y", "low", "real", "pl_noise"})
"""Latents, labels (one-hot or index), small images, real images, noise of the path length."""


class Subject:
    """The networks under examination, what they are fed, and what several numbers are made of.

    Args:
        golden: the networks and their inputs.
        device: moves them there.
    """

    def __init__(self, golden: Golden, device: torch.device) -> None:
        self._networks = golden.networks
        for network in self._networks.values():
            network.to(device).to(memory_format=torch.channels_last)
        self._io = {name: value.to(device) for name, value in golden.io.items() if name in INPUTS}
        self._settings = golden.settings

    def network(self, part: str) -> nn.Module:
        """Return `G` or `D`."""
        if part not in self._networks:
            raise InteropError(f"there is no network {part}")
        return self._networks[part]

    def given(self, name: str) -> Tensor:
        """Return an input."""
        if name not in self._io:
            raise InteropError(f"io.safetensors lacks '{name}'")
        return self._io[name]

    def setting(self, name: str) -> Any:
        """Return a setting of how the numbers were made."""
        if name not in self._settings:
            raise InteropError(f"config.json: config lacks '{name}'")
        return self._settings[name]

    def generate(self, truncation: float = 1.0) -> Tensor:
        """Generate the images."""
        if "low" in self._io:
            image: Tensor = self.network("G")(self._io["low"])
        else:
            image = self.network("G")(self.given("z"), self.label, truncation=truncation)
        return image

    def judge(self, image: Tensor) -> Tensor:
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
        """D's opinion of the real images."""
        return self.judge(self.real)

    @cached_property
    def fake_logits(self) -> Tensor:
        """D's opinion of G's images, attached to both."""
        return self.judge(self.fake)

    @cached_property
    def fixed_fake_logits(self) -> Tensor:
        """D's opinion of G's images, attached to D only."""
        return self.judge(self.fixed_fake)

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


def output(name: str, subject: Subject) -> Tensor:
    """Compute what `io.safetensors` calls `name`.

    Raises:
        InteropError: it is not understood.
    """
    if name in _OUTPUTS:
        return _OUTPUTS[name](subject)
    truncated = re.fullmatch(r"img_psi(\d)(\d*)", name)
    if truncated is None:
        raise InteropError(f"io.safetensors: '{name}' is not understood")
    return subject.generate(truncation=float(f"{truncated[1]}.{truncated[2] or 0}"))


_OUTPUTS: dict[str, Callable[[Subject], Tensor]] = {
    "ws": lambda subject: subject.ws,
    "img": lambda subject: subject.fake,
    "logits_real": lambda subject: subject.real_logits,
    "logits_fake": lambda subject: subject.fake_logits,
}

PENALTIES: dict[str, Callable[[Subject], Tensor]] = {
    "r1_penalty": lambda subject: subject.r1,
    "r2_penalty": lambda subject: subject.r2,
    "pl_lengths": lambda subject: subject.path_lengths,
}
"""Outputs that are compared relatively, one value a sample."""

LOSSES: dict[str, Callable[[Subject], Tensor]] = {
    "D_r1": lambda subject: subject.setting("r1_gamma") / 2 * subject.r1.mean(),
    "D_nonsaturating": lambda subject: non_saturating_d(subject.real_logits, subject.fixed_fake_logits).mean(),
    "D_nonsaturating_real": lambda subject: F.softplus(-subject.real_logits).mean(),
    "D_hinge": lambda subject: hinge_d(subject.real_logits, subject.fixed_fake_logits).mean(),
    "D_relativistic_r1_r2": lambda subject: (
        F.softplus(subject.fixed_fake_logits - subject.real_logits)
        + subject.setting("gamma") / 2 * (subject.r1 + subject.r2)
    ).mean(),
    "G_nonsaturating": lambda subject: non_saturating_g(subject.fake_logits).mean(),
    "G_hinge": lambda subject: hinge_g(subject.fake_logits).mean(),
    "G_relativistic": lambda subject: F.softplus(subject.real_logits - subject.fake_logits).mean(),
    "G_pl_mean0": lambda subject: subject.path_lengths.square().mean(),
    "G_l1": lambda subject: (subject.fake - subject.given("real")).abs().mean(),
}
"""Losses by their names after `grad_norm_`; the first letter tells whose parameters."""

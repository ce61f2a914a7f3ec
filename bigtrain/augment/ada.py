"""Adaptive discriminator augmentation: the pipe of transforms (Karras et al. 2020b, appendix B).

Each transform happens to each sample with probability p, so that G cannot learn it from D's gradients (section 2.2:
below p = 1 the pipe does not hide the distribution behind it). How p follows D's overfitting is in `ada_controller`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from bigtrain.augment.ada_controller import AdaptiveConfig, ProbabilityConfig
from bigtrain.augment.base import Augment
from bigtrain.augment.transforms import (
    COLUMNS,
    Parameters,
    add_noise,
    amplify_bands,
    cut_out,
    move,
    recolour,
)
from bigtrain.core.config import Config, nearest
from bigtrain.core.constants import constant
from bigtrain.core.rng import Draws
from bigtrain.ops.precision import outside_autocast

# fmt: off
TransformName = Literal[
    "xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac", "brightness", "contrast", "lumaflip", "hue",
    "saturation", "imgfilter", "noise", "cutout",
]
# fmt: on
SetName = Literal["blit", "geom", "color", "filter", "noise", "cutout", "bg", "bgc", "bgcf", "bgcfn", "bgcfnc"]

BLIT: tuple[TransformName, ...] = ("xflip", "rotate90", "xint")
GEOMETRY: tuple[TransformName, ...] = ("scale", "rotate", "aniso", "xfrac")
COLOR: tuple[TransformName, ...] = ("brightness", "contrast", "lumaflip", "hue", "saturation")

SETS: Mapping[SetName, tuple[TransformName, ...]] = {
    "blit": BLIT,
    "geom": GEOMETRY,
    "color": COLOR,
    "filter": ("imgfilter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
    "bg": BLIT + GEOMETRY,
    "bgc": BLIT + GEOMETRY + COLOR,
    "bgcf": (*BLIT, *GEOMETRY, *COLOR, "imgfilter"),
    "bgcfn": (*BLIT, *GEOMETRY, *COLOR, "imgfilter", "noise"),
    "bgcfnc": (*BLIT, *GEOMETRY, *COLOR, "imgfilter", "noise", "cutout"),
}
"""The paper's sets by their names (figure 4)."""

# fmt: off
_CHOICES: tuple[tuple[TransformName, int], ...] = (
    ("xflip", 1), ("rotate90", 1), ("xint", 2), ("scale", 1), ("rotate", 1), ("aniso", 1), ("rotate", 1), ("xfrac", 2),
    ("brightness", 1), ("contrast", 1), ("lumaflip", 1), ("hue", 1), ("saturation", 1),
    ("imgfilter", 1), ("imgfilter", 1), ("imgfilter", 1), ("imgfilter", 1), ("noise", 1), ("cutout", 3),
)
# fmt: on
"""What happens or not to a sample, and how many columns of `Parameters`, in their order, depend on it."""


class AdaStrengths(Config):
    """Strength of each transform; the defaults are the paper's values.

    Attributes:
        xint_max: maximum shift by whole pixels, as a share of the image's size.
        scale_std: standard deviation of log2 of the magnification.
        rotate_max: maximum rotation angle, in units of a half turn.
        aniso_std: standard deviation of log2 of the anisotropic stretch.
        xfrac_std: standard deviation of the fractional shift, as a share of the image's size.
        brightness_std: standard deviation of the brightness offset.
        contrast_std: standard deviation of log2 of the contrast factor.
        hue_max: maximum hue rotation, in units of a half turn.
        saturation_std: standard deviation of log2 of the saturation factor.
        imgfilter_std: standard deviation of log2 of the gain of each frequency band.
        noise_std: standard deviation of the noise's standard deviation.
        cutout_size: side of the blanked square, as a share of the image's size.
    """

    xint_max: NonNegativeFloat = 0.125
    scale_std: NonNegativeFloat = 0.2
    rotate_max: NonNegativeFloat = 1.0
    aniso_std: NonNegativeFloat = 0.2
    xfrac_std: NonNegativeFloat = 0.125
    brightness_std: NonNegativeFloat = 0.2
    contrast_std: NonNegativeFloat = 0.5
    hue_max: NonNegativeFloat = 1.0
    saturation_std: NonNegativeFloat = 1.0
    imgfilter_std: NonNegativeFloat = 1.0
    noise_std: NonNegativeFloat = 0.1
    cutout_size: NonNegativeFloat = 0.5


class AdaConfig(Config):
    """Adaptive discriminator augmentation.

    Attributes:
        transforms: one of the paper's sets of transforms; the paper recommends `bgc`.
        multipliers: probability of a transform relative to the common p, for transforms where it is neither 1 (in the
            set) nor 0 (not in the set).
        strengths: strength of each transform.
        probability: the common probability p, fixed or adaptive.
    """

    kind: Literal["ada"]
    transforms: SetName = "bgc"
    multipliers: dict[TransformName, NonNegativeFloat] = Field(default={})
    strengths: AdaStrengths = AdaStrengths()
    probability: ProbabilityConfig = AdaptiveConfig()

    def build(self) -> "AdaPipe":
        """Build the pipe."""
        return AdaPipe({**dict.fromkeys(SETS[self.transforms], 1.0), **self.multipliers}, self.strengths)


class AdaPipe(Augment):
    """The pipe of transforms; those without a multiplier cost nothing.

    Args:
        multipliers: p of each transform relative to the common p; 0 where missing.
        strengths: how far the transforms go.
    """

    def __init__(self, multipliers: Mapping[TransformName, float], strengths: AdaStrengths) -> None:
        self.multipliers = {name: factor for name, factor in multipliers.items() if factor > 0}
        self.strengths = strengths

    def __call__(self, images: Tensor, draws: Draws, p: Tensor | float) -> Tensor:
        """See Augment."""
        with outside_autocast(images.device.type):
            noise = draws.of("noise").normal(*images.shape[1:]) if "noise" in self.multipliers else None
            wide = images.to(torch.promote_types(images.dtype, torch.float32))
            return self.transform(wide, self.choose(draws.of("transforms"), p), noise).to(images.dtype)

    def choose(self, draws: Draws, p: Tensor | float) -> Parameters:
        """Draw what happens to each sample."""
        uniform = draws.uniform(len(_CHOICES) + COLUMNS)
        # A rotation happens before the stretch, after it, or both: at all with probability p (algorithm 1, line 20).
        probability = p * _row(tuple(self.multipliers.get(name, 0.0) for name, _ in _CHOICES), uniform.device)
        twice = _row(tuple(float(name == "rotate") for name, _ in _CHOICES), uniform.device)
        probability = torch.where(twice > 0, 1 - (1 - probability).clamp(min=0).sqrt(), probability)
        happens = uniform[:, : len(_CHOICES)] < probability
        percentiles = Parameters.of(uniform[:, len(_CHOICES) :].clamp(min=2**-24))
        values = at_percentiles(percentiles, self.strengths, deviations=math.sqrt(2))
        return Parameters.of(values.table() * happens[:, _choice_of_column(uniform.device)])

    def transform(self, images: Tensor, parameters: Parameters, noise: Tensor | None) -> Tensor:
        """Apply the transforms that have a multiplier, at given parameters."""
        active = self.multipliers.keys()
        if active & {*BLIT, *GEOMETRY}:
            images = move(images, parameters)
        if active & set(COLOR):
            images = recolour(images, parameters)
        if "imgfilter" in active:
            images = amplify_bands(images, parameters)
        if noise is not None:
            images = add_noise(images, parameters, noise)
        return cut_out(images, parameters) if "cutout" in active else images


def at_percentiles(percentiles: Parameters, strengths: AdaStrengths, *, deviations: float) -> Parameters:
    """Turn percentiles in (0, 1) of each parameter's distribution into parameters.

    Args:
        percentiles: one for every number of the parameters.
        strengths: how far the transforms go.
        deviations: factor on `erfinv(2 * percentile - 1)`: sqrt(2) makes it standard normal.
    """
    at, s = percentiles, strengths

    def normal(percentile: Tensor, deviation: float) -> Tensor:
        return torch.erfinv(2 * percentile - 1) * (deviations * deviation)

    def uniform(percentile: Tensor, bound: float) -> Tensor:
        return (2 * percentile - 1) * bound

    return Parameters(
        x_flip=(2 * at.x_flip).floor(),
        quarter_turns=(4 * at.quarter_turns).floor(),
        integer_shift=uniform(at.integer_shift, s.xint_max),
        log2_scale=normal(at.log2_scale, s.scale_std),
        turn=uniform(at.turn, s.rotate_max * math.pi),
        log2_stretch=normal(at.log2_stretch, s.aniso_std),
        second_turn=uniform(at.second_turn, s.rotate_max * math.pi),
        shift=normal(at.shift, s.xfrac_std),
        brightness=normal(at.brightness, s.brightness_std),
        log2_contrast=normal(at.log2_contrast, s.contrast_std),
        luma_flip=(2 * at.luma_flip).floor(),
        hue=uniform(at.hue, s.hue_max * math.pi),
        log2_saturation=normal(at.log2_saturation, s.saturation_std),
        log2_band_gain=normal(at.log2_band_gain, s.imgfilter_std),
        noise=normal(at.noise, s.noise_std).abs(),
        cutout_centre=at.cutout_centre,
        cutout_size=torch.full_like(at.cutout_size, s.cutout_size),
    )


def apply_named(name: str, images: Tensor, value: float) -> Tensor:
    """Apply one transform to all samples alike, as the reference numbers name it: for checks against others' pipes.

    Args:
        name: a transform of `TransformName` but `noise`, which is random; or `geometry_in_order`, `color_in_order`.
        images: shape [N, C, H, W], float32 or float64.
        value: its parameter: 0 or 1 (`xflip`, `lumaflip`); quarter turns; the shift to the right and down in parts of
            the image (`xint`, `xfrac`); a factor (`scale`, `aniso`, `contrast`, `saturation`, the gain of all bands in
            turn of `imgfilter`); radians (`rotate`, `hue`); an offset (`brightness`); the centre along both axes
            (`cutout`, of half the size). For a group in order: the percentile of all its parameters, through
            `erfinv(2 * value - 1)` without the sqrt(2) that would make it one of the normal distribution, and without
            the rotation after the stretch.

    Raises:
        ValueError: no such transform.
    """
    numbers = torch.zeros(len(images), COLUMNS, device=images.device)
    if name in ("geometry_in_order", "color_in_order"):
        parameters = at_percentiles(Parameters.of(numbers + value), AdaStrengths(), deviations=1.0)
        if name == "color_in_order":
            return recolour(images, parameters)
        return move(images, replace(parameters, second_turn=torch.zeros_like(parameters.second_turn)))
    if name not in _NAMED:
        raise ValueError(f"unknown transform {name!r}" + nearest(name, sorted(_NAMED)))
    function, field, exponent = _NAMED[name]
    neutral = Parameters.of(numbers)
    number = torch.full_like(getattr(neutral, field), math.log2(value) if exponent else value)
    parameters = replace(neutral, **{field: number})
    if name == "cutout":
        parameters = replace(parameters, cutout_size=torch.full_like(neutral.cutout_size, AdaStrengths().cutout_size))
    return function(images, parameters)


_NAMED: Mapping[str, tuple[Callable[[Tensor, Parameters], Tensor], str, bool]] = {
    "xflip": (move, "x_flip", False),
    "rotate90": (move, "quarter_turns", False),
    "xint": (move, "integer_shift", False),
    "scale": (move, "log2_scale", True),
    "rotate": (move, "turn", False),
    "aniso": (move, "log2_stretch", True),
    "xfrac": (move, "shift", False),
    "brightness": (recolour, "brightness", False),
    "contrast": (recolour, "log2_contrast", True),
    "lumaflip": (recolour, "luma_flip", False),
    "hue": (recolour, "hue", False),
    "saturation": (recolour, "log2_saturation", True),
    "imgfilter": (amplify_bands, "log2_band_gain", True),
    "cutout": (cut_out, "cutout_centre", False),
}
"""How to apply each named transform, the parameter that its value sets, and whether as an exponent of 2."""


@constant
def _row(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return constants on the device, sent there once."""
    return torch.tensor(values, device=device)


@constant
def _choice_of_column(device: torch.device) -> Tensor:
    """Return which of the choices each column of `Parameters` depends on: int64, shape [COLUMNS]."""
    return torch.tensor([choice for choice, (_, columns) in enumerate(_CHOICES) for _ in range(columns)], device=device)

"""The transforms of adaptive augmentation at given parameters (Karras et al. 2020b, appendix B, algorithm 1).

Each works on a batch with one parameter a sample. All geometric ones become one affine map, all colour ones one matrix.
"""

import math
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from bigtrain.augment.warp import along_axes, reflected, warp
from bigtrain.core.constants import constant

BANDS = 4
"""Frequency bands of the image filter, from low to high; each but the first spans an octave."""

_SYM2 = tuple(
    (number + sign * math.sqrt(3)) / (4 * math.sqrt(2)) for number, sign in ((1, -1), (3, -1), (3, 1), (1, 1))
)
"""The orthogonal low-pass filter "symlet 2"."""


WIDTHS = {"integer_shift": 2, "shift": 2, "log2_band_gain": BANDS, "cutout_centre": 2}
"""Columns of the parameters that are not one number."""


@dataclass(frozen=True)
class Parameters:
    """What happens to each sample; zero everywhere leaves the images alone.

    Attributes:
        x_flip: 1 to mirror left and right, else 0; shape [N].
        quarter_turns: number of turns by -90 degrees (see `turn`); [N].
        integer_shift: to the right and down, in parts of the image, rounded to whole pixels; [N, 2].
        log2_scale: magnification, as an exponent of 2; [N].
        turn: angle in radians, before the stretch; positive is counter-clockwise as one sees it; [N].
        log2_stretch: magnification along x and its inverse along y, as an exponent of 2; [N].
        second_turn: angle after the stretch; [N].
        shift: to the right and down, in parts of the image; [N, 2].
        brightness: offset; [N].
        log2_contrast: factor, as an exponent of 2; [N].
        luma_flip: 1 to mirror the luma, else 0; [N].
        hue: angle around the luma axis in radians; [N].
        log2_saturation: factor off the luma axis, as an exponent of 2; [N].
        log2_band_gain: amplification of one frequency band after the other, as exponents of 2; [N, BANDS].
        noise: standard deviation of the added noise; [N].
        cutout_centre: middle of the square that is blanked, in parts of the image; [N, 2].
        cutout_size: its side, in parts of the image; [N].
    """

    x_flip: Tensor
    quarter_turns: Tensor
    integer_shift: Tensor
    log2_scale: Tensor
    turn: Tensor
    log2_stretch: Tensor
    second_turn: Tensor
    shift: Tensor
    brightness: Tensor
    log2_contrast: Tensor
    luma_flip: Tensor
    hue: Tensor
    log2_saturation: Tensor
    log2_band_gain: Tensor
    noise: Tensor
    cutout_centre: Tensor
    cutout_size: Tensor

    @classmethod
    def of(cls, table: Tensor) -> Self:
        """Read the parameters, in the order above, from the columns of a table [N, COLUMNS]."""
        parts = torch.split(table, [WIDTHS.get(field.name, 1) for field in fields(cls)], dim=1)
        named = zip(fields(cls), parts, strict=True)
        return cls(**{field.name: part if field.name in WIDTHS else part.squeeze(1) for field, part in named})

    def table(self) -> Tensor:
        """Write them as the columns of one table [N, COLUMNS]."""
        parts: list[Tensor] = [getattr(self, field.name) for field in fields(self)]
        return torch.cat([part if part.ndim == 2 else part[:, None] for part in parts], dim=1)


COLUMNS = sum(WIDTHS.get(field.name, 1) for field in fields(Parameters))
"""Numbers that say what happens to one sample."""


def move(images: Tensor, parameters: Parameters) -> Tensor:
    """Apply the geometric transforms, in one resampling."""
    return warp(images, inverse_affine(parameters, *images.shape[-2:]))


def inverse_affine(parameters: Parameters, height: int, width: int) -> Tensor:
    """Return where each pixel comes from, as `warp` wants it: shape [N, 2, 3].

    Pixels go through x -> general @ (blit @ x + integer shift) + shift.
    """
    mirror = torch.stack([1 - 2 * parameters.x_flip, torch.ones_like(parameters.x_flip)], -1)
    blit = mirror[:, :, None] * _rotation(parameters.quarter_turns * (math.pi / 2))  # inverses, from here on
    exponent = torch.stack([parameters.log2_stretch, -parameters.log2_stretch], -1) + parameters.log2_scale[:, None]
    general = _rotation(parameters.turn) @ (torch.exp2(-exponent)[:, :, None] * _rotation(parameters.second_turn))
    size = torch.stack([torch.full_like(parameters.x_flip, width), torch.full_like(parameters.x_flip, height)], -1)
    integer = (parameters.integer_shift * size).round()
    origin = blit @ -(general @ (parameters.shift * size)[:, :, None] + integer[:, :, None])
    return torch.cat([blit @ general, origin], dim=2)


def recolour(images: Tensor, parameters: Parameters) -> Tensor:
    """Apply the colour transforms: brightness, contrast, luma flip, hue and saturation, as one matrix and one offset.

    Luma is the mean over the channels, for any number of them; hue turns RGB only. A grey image thus keeps brightness,
    contrast and luma flip.
    """
    channels = images.shape[1]
    axis = torch.full((channels, channels), 1 / channels, device=images.device)  # projects on the luma axis
    chroma = torch.eye(channels, device=images.device) - axis
    contrast = torch.exp2(parameters.log2_contrast)
    luma = contrast * (1 - 2 * parameters.luma_flip)
    saturation = contrast * torch.exp2(parameters.log2_saturation)
    if channels == 3:
        # Rodrigues' formula: the part across the axis turns into the axis' cross product with it.
        cross = (torch.roll(chroma, 1, 0) - torch.roll(chroma, 2, 0)) / math.sqrt(3)
        angle = parameters.hue[:, None, None]
        turned = angle.cos() * chroma + angle.sin() * cross
    else:
        turned = chroma.expand(len(images), -1, -1)
    matrix = luma[:, None, None] * axis + saturation[:, None, None] * turned
    offset = luma * parameters.brightness
    mixed = matrix.to(images.dtype) @ images.flatten(2) + offset[:, None, None].to(images.dtype)
    return mixed.reshape(images.shape)


def amplify_bands(images: Tensor, parameters: Parameters) -> Tensor:
    """Amplify frequency bands, each in turn re-normalised to the power that is expected of natural images."""
    power = _expected_power(images.device)
    one_band = torch.diag_embed(parameters.log2_band_gain).exp2()  # [N, step, band]: 1 but for the step's own band
    gain = (one_band * (one_band.square() @ power).rsqrt()[:, :, None]).prod(1).to(images.dtype)
    *_, height, width = images.shape
    filters = (
        torch.einsum("nb,bij->nij", gain, _band_filters(size, images.dtype, images.device))[:, None]
        for size in (height, width)
    )
    return along_axes(images, *filters)


def add_noise(images: Tensor, parameters: Parameters, noise: Tensor) -> Tensor:
    """Add `noise` (standard normal, shape of the images) with each sample's own deviation."""
    return images + parameters.noise.to(images.dtype)[:, None, None, None] * noise


def cut_out(images: Tensor, parameters: Parameters) -> Tensor:
    """Blank a rectangle, to 0 = mid-grey."""
    inside = []
    for axis, size in enumerate(images.shape[:1:-1]):  # width, height
        pixel = (torch.arange(size, device=images.device) + 0.5) / size
        distance = (pixel - parameters.cutout_centre[:, axis, None]).abs()
        inside.append(distance < parameters.cutout_size[:, None] / 2)
    hole = inside[0][:, None, None, :] & inside[1][:, None, :, None]
    return images * ~hole


def _rotation(angle: Tensor) -> Tensor:
    """Return the matrices of `x cos - y sin, x sin + y cos`: shape [N, 2, 2]."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos, -sin, sin, cos], -1).reshape(-1, 2, 2)


@constant
def _expected_power(device: torch.device) -> Tensor:
    """Return each band's share of the power of natural images, shape [BANDS].

    A power spectrum of 1 / f gives each of the octaves the same power, and the rest ten times as much.
    """
    power = torch.ones(BANDS)
    power[0] = 10
    return (power / power.sum()).to(device)


@constant
def _band_filters(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return each band's filter along a line that is reflected at its ends, as matrices [BANDS, size, size].

    A half-band filter splits off the upper half of the spectrum, a stretched copy of it the upper half of what remains,
    and so on; the bands' filters add up to no filter at all.
    """
    line = torch.tensor(_SYM2, dtype=torch.float64)
    low = _convolve(line, line.flip(0)) / 2  # symmetric, and low + high = 1
    high = -low
    high[len(low) // 2] += 1
    rest, bands = torch.ones(1, dtype=torch.float64), list[Tensor]()
    for octave in range(BANDS - 1):
        bands.insert(0, _convolve(rest, _stretched(high, 2**octave)))
        rest = _convolve(rest, _stretched(low, 2**octave))
    bands.insert(0, rest)
    pixel = torch.arange(size)
    matrices = torch.zeros(BANDS, size, size, dtype=torch.float64)
    for matrix, band in zip(matrices, bands, strict=True):
        for tap, weight in enumerate(band, -(len(band) // 2)):
            matrix[pixel, reflected(pixel + tap, size)] += weight
    return matrices.to(device, dtype)


def _stretched(line: Tensor, factor: int) -> Tensor:
    """Put `factor - 1` zeros between the taps."""
    result = line.new_zeros((len(line) - 1) * factor + 1)
    result[::factor] = line
    return result


def _convolve(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.conv1d(a[None, None], b.flip(0)[None, None], padding=len(b) - 1)[0, 0]

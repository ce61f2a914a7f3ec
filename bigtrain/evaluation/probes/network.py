"""The network of a probe: convolutions over a field's axes of space and time, whatever their number."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigtrain.evaluation.errors import EvaluationError
from data_pipelines.fields.registry import kind_of
from data_pipelines.fields.spec import FieldSpec

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_SMALLEST = 4
"""Sides at which no further level halves them."""

_FLOOR = 1e-4
"""What is added to a spectrogram before its logarithm: -80 dB of full scale."""

_SECONDS = 0.032
"""Window of a spectrogram, about: long enough for pitch, short enough for syllables."""


class ProbeNetwork(nn.Module):
    """Field as it is stored -> front end -> levels of two convolutions, halving the sides -> features -> logits.

    Sounds are seen as log-magnitude spectrograms. Everything else is seen as its kind normalises it: arrays of numbers
    through 1-D convolutions, images through 2-D ones, volumes and videos through 3-D ones.

    Args:
        spec: of the field.
        classes: how many.
        width: channels of the first level; further ones have twice, then four times as many.
        levels: how many at most.

    Attributes:
        spec, width, levels: what it was built with.
        features: length of the features before the last layer.

    Raises:
        EvaluationError: the field has no axes that a probe looks along.
    """

    def __init__(self, spec: FieldSpec, classes: int, *, width: int = 16, levels: int = 4) -> None:
        super().__init__()
        self.spec, self._kind = spec, kind_of(spec)
        self.width, self.levels = width, levels
        channels, *sides = self._seen(torch.zeros(1, *spec.shape)).shape[1:]
        if len(sides) not in _CONVOLUTIONS:
            raise EvaluationError(
                f"a probe reads fields of 1 to 3 axes besides the channels, not {spec.kind} {spec.size_words}"
            )
        halvings = max(1, min(levels, int(math.log2(max(1, max(sides) / _SMALLEST)))))
        blocks: list[nn.Module] = []
        for level in range(halvings):
            blocks.append(_Level(channels, width * min(2**level, 4), sides))
            channels, sides = width * min(2**level, 4), [-(-side // 2) for side in sides]
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        self.mean: Tensor
        self.deviation: Tensor
        self.blocks, self.features = nn.Sequential(*blocks), 2 * channels
        self.classify = nn.Linear(self.features, classes)

    def input_of(self, stored: Tensor) -> Tensor:
        """Return what the convolutions get of a field as it is stored: float32, shape [N, C, …]."""
        return self._seen(self._kind.normalise(self.spec, stored))

    def standardise_for(self, stored: Tensor) -> None:
        """Take mean and deviation of some samples; what the convolutions get has 0 and 1."""
        x = self.input_of(stored)
        self.mean.copy_(x.mean())
        self.deviation.copy_(x.std().clamp(min=1e-6))

    def pool(self, x: Tensor) -> Tensor:
        """Return the features, [N, features], of inputs, see `input_of`: the mean and the maximum of each channel."""
        x = self.blocks((x - self.mean) / self.deviation).flatten(2)
        return torch.cat([x.mean(2), x.amax(2)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of inputs, see `input_of`."""
        logits: Tensor = self.classify(self.pool(x))
        return logits

    def _seen(self, normalised: Tensor) -> Tensor:
        """Return a normalised field with channels first and 1 to 3 axes behind them."""
        if self.spec.kind == "audio":
            return log_spectrogram(normalised, self.spec.rate)
        if self.spec.kind == "video":
            return normalised.transpose(1, 2)
        x = normalised.float()
        return x[:, None] if x.ndim == 2 else x


class _Level(nn.Module):
    """A convolution that halves the sides, but those of 1, and another; each with batch statistics and ReLU."""

    def __init__(self, channels: int, width: int, sides: list[int]) -> None:
        super().__init__()
        axes = len(sides)
        stride: Any = tuple(2 if side > 1 else 1 for side in sides)
        self.first = _CONVOLUTIONS[axes](channels, width, 3, stride=stride, padding=1, bias=False)
        self.second = _CONVOLUTIONS[axes](width, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(_NORMS[axes](width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(x)))


def log_spectrogram(sounds: Tensor, rate: float | None) -> Tensor:
    """Return log magnitudes of short-time spectra, [N, channels, frequencies, times].

    Args:
        sounds: in [-1, 1], shape [N, channels, samples].
        rate: samples a second.
    """
    count, channels, samples = sounds.shape
    length = 2 ** round(math.log2(max(16.0, _SECONDS * (rate or 16000))))
    length = min(length, 2 ** max(4, (samples // 4).bit_length() - 1))
    window = torch.hann_window(length, device=sounds.device)
    flat = F.pad(sounds.float().flatten(0, 1), (length // 2, length // 2))
    spectra = torch.stft(flat, length, length // 2, window=window, center=False, return_complex=True).abs()
    magnitudes: Tensor = spectra * (2 / length)
    return (magnitudes + _FLOOR).log().reshape(count, channels, *magnitudes.shape[1:])

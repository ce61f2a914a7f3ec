"""Spectrograms of log magnitudes, as SpecGAN generates them (Donahue et al. 2019, section 3.2), and sounds from these.

The phases are estimated by the algorithm of Griffin & Lim (1984).
"""

import torch
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from bigtrain.core.config import Config
from bigtrain.core.constants import constant
from bigtrain.ops.precision import outside_autocast

_LEAST = 1e-8


class SpectrogramSettings(Config):
    """Settings of a spectrogram, whose values are in [-1, 1].

    The paper scales each frequency by its mean and standard deviation over the training sounds. Here the scale is
    fixed: 1 is a sine of full scale, and -1 is `range_db` decibels or more below it.

    Attributes:
        n_fft: number of samples of a Fourier transform and of its Hann window.
        hop: number of samples between two frames.
        range_db: range of the values in decibels.
    """

    n_fft: PositiveInt = 256
    hop: PositiveInt = 128
    range_db: PositiveFloat = 80.0

    @model_validator(mode="after")
    def _fits(self) -> "SpectrogramSettings":
        if self.n_fft % 2 or self.hop > self.n_fft // 2:
            raise ValueError(f"n_fft {self.n_fft} must be even, and hop {self.hop} at most half of it")
        return self

    def shape(self, samples: int) -> tuple[int, int, int]:
        """Return the shape of the spectrogram of a sound of so many samples: [1, n_fft / 2, samples / hop].

        Raises:
            ValueError: the hop does not divide the number, or the sound is too short to be mirrored at its ends.
        """
        if samples % self.hop or samples <= self.n_fft // 2:
            raise ValueError(f"a sound of {samples} samples is not a multiple of hop {self.hop}, or too short")
        return 1, self.n_fft // 2, samples // self.hop

    def spectrogram(self, sound: Tensor) -> Tensor:
        """Compute the spectrogram, in float32, without the highest frequency and the last frame, as in the paper.

        Args:
            sound: shape [N, 1, L], in [-1, 1].

        Returns:
            Shape [N, 1, n_fft / 2, L / hop].
        """
        with outside_autocast(sound.device.type):
            magnitude = self.transform(sound.float().squeeze(1)).abs()[:, :-1, :-1]
            decibels = 20 * (magnitude / self._full_scale).clamp(min=_LEAST).log10()
            return (1 + 2 * decibels / self.range_db).clamp(-1, 1)[:, None]

    def sound(self, spectrogram: Tensor, phase: Tensor, *, iterations: int) -> Tensor:
        """Estimate a sound by the algorithm of Griffin & Lim, in float32.

        Args:
            spectrogram: shape [N, 1, F, T], values around [-1, 1].
            phase: to begin with, in radians, shape [N, F, T].
            iterations: number of times that the phases of the estimate are taken over.

        Returns:
            Shape [N, 1, T * hop].
        """
        with outside_autocast(spectrogram.device.type):
            decibels = (spectrogram.float().squeeze(1).clamp(-1, 1) - 1) * self.range_db / 2
            magnitude = self._with_edges(10 ** (decibels / 20) * self._full_scale)
            phase = self._with_edges(phase.float())
            sound = self._inverse(torch.polar(magnitude, phase))
            for _ in range(iterations):
                sound = self._inverse(torch.polar(magnitude, self.transform(sound).angle()))
            return sound[:, None]

    @property
    def _full_scale(self) -> float:
        """The magnitude of a sine of amplitude 1: half of the sum of the window."""
        return self.n_fft / 4

    def _with_edges(self, values: Tensor) -> Tensor:
        """Append the highest frequency, with zeros, and a last frame, which is that before it."""
        values = torch.cat([values, torch.zeros_like(values[:, :1])], dim=1)
        return torch.cat([values, values[:, :, -1:]], dim=2)

    def transform(self, sound: Tensor) -> Tensor:
        """Return the Fourier transforms of the frames of sounds [N, L], complex, [N, n_fft / 2 + 1, L / hop + 1]."""
        window = _hann(self.n_fft, sound.device)
        found: Tensor = torch.stft(sound, self.n_fft, self.hop, window=window, center=True, return_complex=True)
        return found

    def _inverse(self, frames: Tensor) -> Tensor:
        """Return the sound [N, L] whose transforms are nearest to given ones."""
        length = (frames.shape[2] - 1) * self.hop
        found: Tensor = torch.istft(
            frames, self.n_fft, self.hop, window=_hann(self.n_fft, frames.device), center=True, length=length
        )
        return found


@constant
def _hann(length: int, device: torch.device) -> Tensor:
    return torch.hann_window(length, device=device)

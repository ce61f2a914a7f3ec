"""Mel spectrograms as vocoders use them (Kong et al. 2020, HiFi-GAN, section 3): log magnitudes in Slaney's bands."""

import math

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from bigtrain.core.config import Config
from bigtrain.core.constants import constant
from bigtrain.ops.padding import mirror1d
from bigtrain.ops.precision import outside_autocast

_LINEAR_BELOW, _HZ_A_MEL, _LOG_STEP = 1000.0, 200.0 / 3.0, math.log(6.4) / 27.0
"""Slaney's scale: linear up to 1 kHz, and 27 mels for each factor of 6.4 above."""
_LEAST = 1e-5
_UNDER_THE_ROOT = 1e-9


class MelSettings(Config):
    """Settings of a mel spectrogram.

    Attributes:
        rate: sampling rate of the sound, in samples per second.
        n_fft: number of samples of a Fourier transform.
        hop: number of samples between two frames.
        window: number of samples of the Hann window, at most `n_fft`.
        bands: number of mel bands.
        low: lowest frequency, in Hz.
        high: highest frequency, in Hz; null for half of the rate.
    """

    rate: PositiveInt
    n_fft: PositiveInt = 1024
    hop: PositiveInt = 256
    window: PositiveInt = 1024
    bands: PositiveInt = 80
    low: NonNegativeFloat = 0.0
    high: PositiveFloat | None = None

    @model_validator(mode="after")
    def _fits(self) -> "MelSettings":
        if self.window > self.n_fft:
            raise ValueError(f"window {self.window} is longer than n_fft {self.n_fft}")
        if (self.n_fft - self.hop) % 2 or self.hop > self.n_fft:
            raise ValueError(f"hop {self.hop}: n_fft {self.n_fft} less hop must be even, and not negative")
        if not self.low < self.highest <= self.rate / 2:
            raise ValueError(f"low {self.low:g} and high {self.highest:g} Hz must rise, up to half of rate {self.rate}")
        return self

    @property
    def highest(self) -> float:
        """The highest frequency, in Hz."""
        return self.rate / 2 if self.high is None else self.high

    def frames(self, samples: int) -> int:
        """Return the frames of a sound of so many samples.

        Raises:
            ValueError: the hop does not divide it, or it is too short to be mirrored at its ends.
        """
        if samples % self.hop or samples <= (self.n_fft - self.hop) // 2:
            raise ValueError(f"a sound of {samples} samples is not a multiple of hop {self.hop}, or too short")
        return samples // self.hop

    def spectrogram(self, sound: Tensor) -> Tensor:
        """Compute the logarithm of the magnitude in each band, in float32.

        Args:
            sound: shape [N, 1, L], in [-1, 1].

        Returns:
            Shape [N, bands, L / hop]: the sound is mirrored at its ends, so that frames lie in the middle of their hop.
        """
        with outside_autocast(sound.device.type):
            margin = (self.n_fft - self.hop) // 2
            padded = mirror1d(sound.float(), margin, margin).squeeze(1)
            window = _hann(self.window, sound.device)
            bins = torch.stft(
                padded, self.n_fft, self.hop, self.window, window, center=False, return_complex=True, onesided=True
            )
            magnitude = (bins.real.square() + bins.imag.square() + _UNDER_THE_ROOT).sqrt()
            basis = mel_basis(self.rate, self.n_fft, self.bands, self.low, self.highest, sound.device)
            return (basis @ magnitude).clamp(min=_LEAST).log()


@constant
def _hann(length: int, device: torch.device) -> Tensor:
    return torch.hann_window(length, device=device)


@constant
def mel_basis(rate: int, n_fft: int, bands: int, low: float, high: float, device: torch.device) -> Tensor:
    """Return the weight of each frequency in each band: triangles of equal area (Slaney 1998, Auditory Toolbox).

    Returns:
        Float32, shape [bands, n_fft // 2 + 1].
    """
    edges = _to_hz(torch.linspace(_to_mel(low), _to_mel(high), bands + 2, dtype=torch.float64))
    frequencies = torch.linspace(0, rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    areas = 2 / (edges[2:] - edges[:-2])
    return (torch.minimum(rising, falling).clamp(min=0) * areas[:, None]).float().to(device)


def _to_mel(hz: float) -> float:
    if hz < _LINEAR_BELOW:
        return hz / _HZ_A_MEL
    return _LINEAR_BELOW / _HZ_A_MEL + math.log(hz / _LINEAR_BELOW) / _LOG_STEP


def _to_hz(mel: Tensor) -> Tensor:
    corner = _LINEAR_BELOW / _HZ_A_MEL
    return torch.where(mel < corner, mel * _HZ_A_MEL, _LINEAR_BELOW * ((mel - corner) * _LOG_STEP).exp())

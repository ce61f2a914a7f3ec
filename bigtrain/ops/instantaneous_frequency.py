"""Spectrograms of log magnitudes and instantaneous frequencies, as GANSynth generates them (Engel et al. 2019)."""

import math

import torch
from torch import Tensor

from bigtrain.ops.precision import outside_autocast
from bigtrain.ops.spectrogram import SpectrogramSettings


class FrequencySettings(SpectrogramSettings):
    """Settings of a spectrogram of two channels, whose values are in [-1, 1].

    The first channel is that of `SpectrogramSettings`. The second one is the change of the phase from one frame to the
    next, wrapped to [-pi, pi], divided by pi; in the first frame it is the phase itself. Where a tone is steady, so is
    this value, and a network need not learn how phases turn. Since the phases are there, the sound is not estimated but
    computed.
    """

    def shape(self, samples: int) -> tuple[int, int, int]:
        """Return the shape of the spectrogram of a sound: [2, n_fft / 2, samples / hop]; see `SpectrogramSettings`."""
        _, bands, frames = super().shape(samples)
        return 2, bands, frames

    def spectrogram(self, sound: Tensor) -> Tensor:
        """Compute the spectrogram, in float32, without the highest frequency and the last frame.

        Args:
            sound: shape [N, 1, L], in [-1, 1].

        Returns:
            Shape [N, 2, n_fft / 2, L / hop].
        """
        with outside_autocast(sound.device.type):
            phase = self.transform(sound.float().squeeze(1)).angle()[:, :-1, :-1]
            change = torch.diff(phase, dim=2, prepend=torch.zeros_like(phase[:, :, :1]))
            change = change - 2 * math.pi * (change / (2 * math.pi)).round()
            return torch.cat([super().spectrogram(sound), change[:, None] / math.pi], 1)

    def sound_of(self, spectrogram: Tensor) -> Tensor:
        """Return the sound [N, 1, T * hop] of a spectrogram [N, 2, F, T], in float32."""
        with outside_autocast(spectrogram.device.type):
            phase = math.pi * spectrogram[:, 1].double().cumsum(2)
            return self.sound(spectrogram[:, :1], phase.remainder(2 * math.pi).float(), iterations=0)

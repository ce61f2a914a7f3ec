"""Spectrograms of log magnitudes, and sounds that have them."""

import math

import pytest
import torch

from bigtrain.ops.spectrogram import SpectrogramSettings

SETTINGS = SpectrogramSettings(n_fft=128, hop=64)
RATE = 8000


def sine(hertz: float, samples: int = 4096) -> torch.Tensor:
    return torch.sin(2 * math.pi * hertz / RATE * torch.arange(samples))[None, None]


def test_a_sine_of_full_scale_is_one_and_silence_minus_one() -> None:
    found = SETTINGS.spectrogram(torch.cat([sine(1000), torch.zeros(1, 1, 4096)]))
    assert found.shape == (2, *SETTINGS.shape(4096)) == (2, 1, 64, 64)
    assert found[0, 0, 16, 8:-8].numpy() == pytest.approx(1, abs=1e-3)  # 1,000 Hz is frequency 16 of 64
    assert found[0, 0, 40, 8:-8].max() < -0.5
    assert (found[1] == -1).all()


def test_values_are_decibels() -> None:
    quieter = SETTINGS.spectrogram(0.1 * sine(1000))[0, 0, 16, 8:-8]
    assert quieter.numpy() == pytest.approx(1 - 2 * 20 / 80, abs=1e-3)


def test_the_sound_of_a_spectrogram_has_that_spectrogram() -> None:
    sound = sine(500) * torch.linspace(1, 0.1, 4096) + 0.2 * sine(2250)
    spectrogram = SETTINGS.spectrogram(sound)
    phase = 2 * math.pi * torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))

    def error(iterations: int) -> float:
        """Return the relative error of the magnitudes."""
        estimate = SETTINGS.sound(spectrogram, phase, iterations=iterations)
        assert estimate.shape == sound.shape
        one, other = (10 ** (2 * SETTINGS.spectrogram(x)) for x in (sound, estimate))
        return float((one - other).norm() / one.norm())

    errors = [error(iterations) for iterations in (0, 4, 16)]
    assert errors[0] > 2 * errors[1] > 2 * errors[2]
    assert errors[2] < 0.15
    spectrum = torch.fft.rfft(SETTINGS.sound(spectrogram, phase, iterations=16)[0, 0]).abs()
    assert int(spectrum.argmax()) == pytest.approx(500 / RATE * 4096, abs=2)


def test_the_true_phases_give_the_true_sound() -> None:
    sound = torch.randn(1, 1, 4096, generator=torch.Generator().manual_seed(0)).clamp(-3, 3) / 10
    spectrogram = SETTINGS.spectrogram(sound)
    frames = torch.stft(sound[:, 0], 128, 64, window=torch.hann_window(128), center=True, return_complex=True)
    found = SETTINGS.sound(spectrogram, frames.angle()[:, :-1, :-1], iterations=0)
    # The highest frequency and the last frame are not in the spectrogram.
    assert float((found - sound)[..., :-128].norm() / sound.norm()) < 0.15


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"n_fft": 127}, "n_fft 127 must be even"), ({"n_fft": 128, "hop": 100}, "hop 100 at most half of it")],
)
def test_settings_that_do_not_fit_are_named(settings: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SpectrogramSettings(**settings)
    with pytest.raises(ValueError, match="a sound of 4000 samples is not a multiple of hop 64, or too short"):
        SETTINGS.shape(4000)

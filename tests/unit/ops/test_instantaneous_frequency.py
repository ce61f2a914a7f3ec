"""Spectrograms of magnitudes and instantaneous frequencies (GANSynth)."""

import math

import pytest
import torch

from bigtrain.augment.derived.sounds import FrequencyConfig
from bigtrain.core.rng import Draws
from bigtrain.ops.instantaneous_frequency import FrequencySettings
from data_pipelines.fields.spec import FieldSpec

SETTINGS = FrequencySettings(n_fft=128, hop=32)
RATE = 8000


def sine(hertz: float, samples: int = 4096) -> torch.Tensor:
    return torch.sin(2 * math.pi * hertz / RATE * torch.arange(samples))[None, None]


def test_of_a_steady_tone_the_frequency_is_constant() -> None:
    found = SETTINGS.spectrogram(sine(1010))
    assert found.shape == (1, *SETTINGS.shape(4096)) == (1, 2, 64, 128)
    assert found.abs().max() <= 1
    turns = 2 * 1010 / RATE * 32  # half turns from a frame to the next
    expected = turns - 2 * round(turns / 2)
    assert found[0, 1, 16, 8:-8].numpy() == pytest.approx(expected, abs=1e-3)


def test_the_sound_comes_back() -> None:
    sound = sine(500) * torch.linspace(0.8, 0.1, 4096) + 0.2 * sine(2250)
    found = SETTINGS.sound_of(SETTINGS.spectrogram(sound))
    assert found.shape == sound.shape
    # The highest frequency and the last frame are not in the spectrogram, nor is what is 80 dB below full scale.
    assert float((found - sound)[..., 64:-128].abs().max()) < 2e-3


def test_as_a_field_it_is_inverted() -> None:
    derived = FrequencyConfig(kind="instantaneous_frequency", n_fft=128, hop=32)
    source = FieldSpec("audio", (1, 4096), "int16", rate=RATE)
    assert derived.spec(source) == FieldSpec("array", (2, 64, 128), "float32", codec="npy")
    draws = Draws(0, torch.arange(1), "test")
    sound = 0.5 * sine(700)
    found = derived.invert(derived.compute(sound, draws), draws)
    assert float((found - sound)[..., 64:-128].abs().max()) < 2e-3
    with pytest.raises(ValueError, match="needs sounds of one channel, but its source has 2"):
        derived.spec(FieldSpec("audio", (2, 4096), "int16"))

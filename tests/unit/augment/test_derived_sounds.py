"""Fields that are computed from sounds."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from bigtrain.augment.derived.sounds import ExcerptConfig, MelConfig
from bigtrain.core.config import ConfigError, parse_config
from bigtrain.core.rng import Draws
from bigtrain.ops.mel import MelSettings, mel_basis
from data_pipelines.fields.spec import FieldSpec

SOUND = FieldSpec("audio", (1, 4096), "int16", rate=8000)
MEL: dict[str, Any] = {"kind": "mel", "rate": 8000, "n_fft": 512, "hop": 128, "window": 512, "bands": 40}


def tone(hz: float, samples: int = 4096) -> Tensor:
    return (2 * math.pi * hz / 8000 * torch.arange(samples)).sin()[None, None]


@pytest.mark.parametrize("hz", [300.0, 1000.0, 2500.0])
def test_a_tone_is_loudest_in_its_band(hz: float) -> None:
    mel = parse_config(MelConfig, MEL, source="test")
    assert mel.spec(SOUND).shape == (40, 32)
    levels = mel.compute(tone(hz), Draws(0, torch.arange(1)))[0].mean(1)
    basis = mel_basis(8000, 512, 40, 0.0, 4000.0, torch.device("cpu"))
    assert abs(int(levels.argmax()) - int(basis[:, round(hz / 8000 * 512)].argmax())) <= 1


def test_an_excerpt_goes_by_the_draws_of_its_sample() -> None:
    excerpt = parse_config(ExcerptConfig, {"kind": "excerpt", "samples": 256}, source="test")
    sounds = torch.arange(4096.0).expand(6, 1, -1) + 10_000 * torch.arange(6.0).reshape(6, 1, 1)
    draws = Draws(0, torch.arange(6))
    whole = excerpt.compute(sounds, draws)
    assert tuple(whole.shape[1:]) == excerpt.spec(SOUND).shape
    assert torch.equal(excerpt.compute(sounds[2:4], draws[2:4]), whole[2:4])
    begins = whole[:, 0, 0] - 10_000 * torch.arange(6.0)
    assert len(set(begins.tolist())) > 4
    assert torch.equal(
        whole, begins.reshape(6, 1, 1) + 10_000 * torch.arange(6.0).reshape(6, 1, 1) + torch.arange(256.0)
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"rate": 16000}, "rate 16000: the sounds have 8000 samples per second"),
        ({"hop": 100}, "4096 samples is not a multiple of hop 100"),
    ],
)
def test_a_spectrogram_that_does_not_fit_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_config(MelConfig, {**MEL, **config}, source="test").spec(SOUND)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"window": 1024}, "window 1024 is longer than n_fft 512"),
        ({"high": 5000.0}, "up to half of rate 8000"),
        ({"hop": 127}, "hop 127"),
    ],
)
def test_impossible_settings_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(MelConfig, {**MEL, **config}, source="test")


def test_images_have_no_sound() -> None:
    with pytest.raises(ValueError, match="needs sounds"):
        parse_config(MelConfig, MEL, source="test").spec(FieldSpec("image", (3, 8, 8), "uint8"))
    with pytest.raises(ValueError, match="needs the sample rate of the sounds"):
        parse_config(MelConfig, MEL, source="test").spec(FieldSpec("audio", (1, 4096), "int16"))
    with pytest.raises(ValueError, match="samples 256: the sounds have only 128"):
        ExcerptConfig(kind="excerpt", samples=256).spec(FieldSpec("audio", (1, 128), "int16", rate=8000))


def test_silence_is_at_the_floor_and_no_derivative_is_lost() -> None:
    mel = MelSettings(rate=8000, n_fft=512, hop=128, window=512, bands=40)
    silence = torch.zeros(1, 1, 4096, requires_grad=True)
    spectrogram = mel.spectrogram(silence)
    spectrogram.sum().backward()
    assert spectrogram.min() >= math.log(1e-5) - 1e-4
    assert silence.grad is not None and silence.grad.isfinite().all()

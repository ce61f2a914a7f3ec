"""A generator of spectrograms whose samples are sounds (SpecGAN)."""

import json
from typing import Any

import pytest
import torch

from bigtrain.augment.derived.sounds import SpectrogramConfig
from bigtrain.config import load_training
from bigtrain.core.config import ConfigError, parse_config
from bigtrain.core.rng import Draws
from bigtrain.tasks import read_sampler
from bigtrain.tasks.sounds import SoundSampler
from bigtrain.tasks.synthesis import SynthesisConfig
from data_pipelines.fields.spec import FieldSpec
from tests.conftest import ROOT

SOUND = FieldSpec("audio", (1, 1024), "int16", rate=8000)
FIELDS = {"audio": SOUND, "spectrogram": FieldSpec("array", (1, 32, 32), "float32")}
NETWORK = {"kind": "dcgan", "width": 4, "norm": "none"}
STFT = {"n_fft": 64, "hop": 32}


def config(**sound: Any) -> SynthesisConfig:
    adam = {"lr": 1e-3, "beta1": 0.5}
    document = {
        "field": "spectrogram",
        "generator": NETWORK,
        "discriminator": NETWORK,
        "sound": {**STFT, **sound},
        "optim": {"G": adam, "D": adam},
        "global_batch": 4,
    }
    return parse_config(SynthesisConfig, document, source="test")


def test_the_field_of_a_sound() -> None:
    derived = SpectrogramConfig(kind="spectrogram", n_fft=64, hop=32)
    assert derived.spec(SOUND) == FieldSpec("array", (1, 32, 32), "float32", codec="npy")
    found = derived.compute(torch.randn(2, 1, 1024), Draws(0, torch.arange(2), "test"))
    assert found.shape == (2, 1, 32, 32)
    assert found.abs().max() <= 1
    with pytest.raises(ValueError, match="needs sounds, but its source has the kind 'array'"):
        derived.spec(FIELDS["spectrogram"])
    with pytest.raises(ValueError, match="needs sounds of one channel, but its source has 2"):
        derived.spec(FieldSpec("audio", (2, 1024), "int16"))


def test_samples_are_sounds_and_each_is_its_own() -> None:
    task = config().build_task(FIELDS, {}, seed=0, device=torch.device("cpu"))
    sampler = task.sampler
    assert isinstance(sampler, SoundSampler)
    assert dict(sampler.outputs) == {"audio": SOUND}
    networks = {"G": task.networks()["G"].eval()}
    made = sampler(networks, {}, Draws(0, torch.arange(5), "test"))["audio"]
    assert made.shape == (5, *SOUND.shape)
    assert made.isfinite().all()
    alone = sampler(networks, {}, Draws(0, torch.tensor([3]), "test"))["audio"]
    torch.testing.assert_close(alone, made[3:4], rtol=0, atol=1e-5)
    again = read_sampler(json.loads(json.dumps(sampler.describe())))
    assert again.describe() == sampler.describe()
    assert torch.equal(again(networks, {}, Draws(0, torch.arange(5), "test"))["audio"], made)


@pytest.mark.parametrize(
    ("sound", "words"),
    [
        (
            {"field": "noise"},
            "sound.field: 'noise' is not a field of sounds of one channel; data has audio, spectrogram",
        ),
        ({"hop": 16}, r"make spectrograms of \[1, 32, 64\], but the field 'spectrogram' has the shape \[1, 32, 32\]"),
    ],
)
def test_what_does_not_fit_is_named(sound: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config(**sound).networks(FIELDS)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sound.range_db=60", r"sound.range_db is 60.0, but data.derived.spectrogram has 80.0: use 80.0 in both"),
        ("sound.field=noise", r"sound.field is noise, but data.derived.spectrogram has audio: use audio in both"),
    ],
)
def test_the_recipe_refuses_two_scales(override: str, words: str) -> None:
    recipe = ROOT / "configs" / "specgan-drums8k.yaml"
    assert load_training(recipe).field == "spectrogram"
    with pytest.raises(ConfigError, match=words):
        load_training(recipe, [override])

"""A generator of spectrograms whose samples are sounds (SpecGAN)."""

import json

import pytest
import torch

from bigtrain.augment.derived.base import derived_specs
from bigtrain.augment.derived.sounds import SpectrogramConfig
from bigtrain.core.config import parse_config
from bigtrain.core.rng import Draws
from bigtrain.tasks import read_sampler
from bigtrain.tasks.samplers import InvertingSampler
from bigtrain.tasks.synthesis import SynthesisConfig
from data_pipelines.fields.spec import FieldSpec

SOUND = FieldSpec("audio", (1, 1024), "int16", rate=8000)
DERIVED = SpectrogramConfig(kind="spectrogram", n_fft=64, hop=32)
FIELDS = {"audio": SOUND, **derived_specs({"spectrogram": DERIVED}, {"audio": SOUND})}
NETWORK = {"kind": "dcgan", "width": 4, "norm": "none"}


def config() -> SynthesisConfig:
    adam = {"lr": 1e-3, "beta1": 0.5}
    document = {
        "field": "spectrogram",
        "generator": NETWORK,
        "discriminator": NETWORK,
        "optim": {"G": adam, "D": adam},
        "global_batch": 4,
    }
    return parse_config(SynthesisConfig, document, source="test")


def test_the_field_of_a_sound() -> None:
    assert DERIVED.spec(SOUND) == FieldSpec("array", (1, 32, 32), "float32", codec="npy")
    found = DERIVED.compute(torch.randn(2, 1, 1024), Draws(0, torch.arange(2), "test"))
    assert found.shape == (2, 1, 32, 32)
    assert found.abs().max() <= 1
    with pytest.raises(ValueError, match="needs sounds, but its source has the kind 'array'"):
        DERIVED.spec(FIELDS["spectrogram"])
    with pytest.raises(ValueError, match="needs sounds of one channel, but its source has 2"):
        DERIVED.spec(FieldSpec("audio", (2, 1024), "int16"))


def test_samples_are_sounds_and_each_is_its_own() -> None:
    task = config().build_task(FIELDS, {}, seed=0, device=torch.device("cpu"))
    sampler = task.sampler
    assert isinstance(sampler, InvertingSampler)
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

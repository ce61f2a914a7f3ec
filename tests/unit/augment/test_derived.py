"""Derived fields: what they are, that they belong to the sample's position, and that they do what their names say."""

import io
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from bigtrain.augment.derived import DERIVED, derive
from bigtrain.augment.derived.base import derived_specs, in_levels
from bigtrain.augment.derived.jpeg import compressed
from bigtrain.augment.derived.restoration import sinc_kernels
from bigtrain.core.config import ConfigError, parse_config
from bigtrain.core.rng import Draws
from bigtrain.engine.shards_config import ShardsConfig
from bigtrain.ops.colour import lightness_of
from data_pipelines.fields.spec import FieldSpec

SIDE = 32
IMAGE = FieldSpec("image", (3, SIDE, SIDE), "uint8")
KINDS: list[dict[str, Any]] = [
    {"kind": "blur", "isotropic": 0.5},
    {"kind": "downscale", "scale": 4},
    {"kind": "downscale", "scale": 2, "filter": "area"},
    {"kind": "edges", "sigma": 1.0},
    {"kind": "grayscale"},
    {"kind": "grayscale", "brightness": "lightness"},
    {"kind": "holes"},
    {"kind": "holes", "strokes": 0, "rectangle": [0.2, 0.5]},
    {"kind": "jpeg"},
    {"kind": "label_map", "colours": [[0, 0, 0], [200, 100, 50], [255, 255, 255]]},
    {"kind": "noise", "grey": 0.5},
    {"kind": "restoration", "scale": 2},
]


@pytest.fixture(scope="module")
def images() -> Tensor:
    coarse = torch.rand(6, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    return in_levels(F.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(0, 1) * 2 - 1)


def data(derived: dict[str, Any]) -> ShardsConfig:
    return parse_config(ShardsConfig, {"path": "x", "resolution": SIDE, "derived": derived}, source="test")


@pytest.mark.parametrize("config", KINDS, ids=lambda config: "-".join(map(str, config.values())))
def test_a_sample_is_derived_alike_in_every_batch_and_as_its_spec_says(config: dict[str, Any], images: Tensor) -> None:
    one, draws = data({"input": config}).derived["input"], Draws(0, torch.arange(6) + 10)
    whole, part = one.compute(images, draws), one.compute(images[2:4], draws[2:4])
    assert tuple(whole.shape[1:]) == one.spec(IMAGE).shape
    torch.testing.assert_close(
        part, whole[2:4], rtol=0, atol=1.01 / 127.5
    )  # a level, where rounding may fall either way
    levels = (whole + 1) * 127.5
    torch.testing.assert_close(levels, levels.round().clamp(0, 255), rtol=0, atol=1e-3)
    if config["kind"] not in ("downscale", "edges", "grayscale", "label_map"):
        assert (one.compute(images, Draws(1, draws.index)) - whole).abs().max() > 0.02  # another seed, another damage


def test_every_kind_is_tried_here() -> None:
    elsewhere = {"excerpt", "mel", "spectrogram", "instantaneous_frequency", "frames"}  # fields of sounds and of clips
    elsewhere |= {"dual", "orbit_camera"}  # what EG3D needs, tested with it
    assert {config["kind"] for config in KINDS} | elsewhere == set(DERIVED)


def test_smaller_images_are_those_of_pillow(images: Tensor) -> None:
    small = (
        data({"input": {"kind": "downscale", "scale": 4}}).derived["input"].compute(images, Draws(0, torch.arange(6)))
    )
    levels = ((images[0] + 1) * 127.5).numpy()
    expected = np.stack([Image.fromarray(channel).resize((8, 8), Image.Resampling.BICUBIC) for channel in levels])
    made = (small[0].numpy() + 1) * 127.5  # in 8 bits Pillow would round between its two passes
    np.testing.assert_allclose(made, expected.round().clip(0, 255), atol=1e-3)


@pytest.mark.parametrize("quality", [10, 50, 95])
def test_compressed_images_are_nearly_those_of_libjpeg(quality: int, images: Tensor) -> None:
    pixels = ((images[0] + 1) * 127.5).round().byte()
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    expected = torch.from_numpy(np.array(Image.open(file)).transpose(2, 0, 1).astype(np.float32))
    made = (compressed(pixels[None].float() / 127.5 - 1, torch.tensor([float(quality)]))[0] + 1) * 127.5
    assert (made - expected).abs().mean() < 2  # the colours' interpolation differs
    assert (made - expected).abs().mean() < 0.5 * (pixels - expected).abs().mean()


def test_greys_of_the_same_lightness(images: Tensor) -> None:
    config = data({"input": {"kind": "grayscale", "brightness": "lightness"}}).derived["input"]
    made = config.compute(images, Draws(0, torch.arange(6)))
    level = 1.3  # of L*: what rounding to 256 levels may change, most in the dark
    torch.testing.assert_close(lightness_of(made), lightness_of(images), rtol=0, atol=level / 2)


def test_a_label_is_the_place_of_the_nearest_colour() -> None:
    colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    config = data({"input": {"kind": "label_map", "colours": colours}}).derived["input"]
    given = torch.tensor([[0, 250, 10], [40, 0, 90], [255, 60, 0]]).T.reshape(1, 3, 1, 3) / 127.5 - 1
    made = (config.compute(given, Draws(0, torch.arange(1))) + 1) * 127.5
    assert made.round().flatten().tolist() == [1, 2, 0]


def test_holes_are_black_and_told_by_the_last_channel(images: Tensor) -> None:
    made = data({"input": {"kind": "holes"}}).derived["input"].compute(images, Draws(0, torch.arange(6)))
    hole = made[:, 3:] < 0
    assert set(made[:, 3:].unique().tolist()) == {-1.0, 1.0}
    assert (hole.flatten(1).any(1) & ~hole.flatten(1).all(1)).all()
    expected = torch.where(hole, -1.0, images)
    torch.testing.assert_close(made[:, :3], expected)


def test_low_pass_filters_keep_a_constant_and_remove_the_highest_frequency() -> None:
    kernels = sinc_kernels(torch.tensor([0.0, 0.99]), 10)
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(2))
    checkers = 1 - 2 * ((torch.arange(21)[:, None] + torch.arange(21)) % 2).float()
    assert (kernels[0] * checkers).sum().abs() < 0.02


def test_derived_fields_may_be_derived_from_each_other(images: Tensor) -> None:
    config = data({"small": {"kind": "downscale", "scale": 2}, "input": {"kind": "jpeg", "of": "small"}})
    assert config.field_specs()["input"].shape == (3, SIDE // 2, SIDE // 2)
    assert derive(config.derived, {"image": images}, Draws(0, torch.arange(6)))["input"].shape[2] == SIDE // 2
    assert derived_specs(config.derived, config.specs()).keys() == {"small", "input"}


@pytest.mark.parametrize(
    ("derived", "words"),
    [
        ({"input": {"kind": "downscale", "scale": 5}}, "derived.input: scale 5 does not divide images of 32x32 pixels"),
        (
            {"input": {"kind": "jpeg", "of": "imag"}},
            "derived.input.of: no field 'imag' is declared before it; there is image",
        ),
        ({"image": {"kind": "jpeg"}}, "derived.image: the samples already have a field of this name"),
        ({"input": {"kind": "jpg"}}, "unknown data.derived.input.kind 'jpg' (did you mean 'jpeg'?)"),
        ({"input": {"kind": "noise", "sigma": [9, 1]}}, "sigma: [9, 1]: write the smaller value first"),
        (
            {"input": {"kind": "edges", "thresholds": [50, 20]}},
            "thresholds: [50, 20]: write the smaller value first",
        ),
        ({"input": {"kind": "holes", "strokes": 0}}, "some samples would have no hole"),
    ],
)
def test_a_mistake_is_named(derived: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        data(derived)
    assert words.replace("data.derived", "derived") in str(caught.value)

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigtrain.augment import AugmentConfig
from bigtrain.augment.ada import _CHOICES, SETS, AdaConfig, AdaPipe, AdaStrengths, apply_named, at_percentiles
from bigtrain.augment.transforms import COLUMNS, Parameters, _band_filters, amplify_bands, inverse_affine
from bigtrain.core.config import Config, ConfigError, parse_config
from bigtrain.core.rng import Draws

ALL = AdaConfig(kind="ada", transforms="bgcfnc").build()


def _draws(n: int, start: int = 0) -> Draws:
    return Draws(7, torch.arange(start, start + n), "d_main/augment_real")


def test_every_column_of_the_parameters_depends_on_a_choice() -> None:
    assert sum(columns for _, columns in _CHOICES) == COLUMNS
    table = torch.arange(2.0 * COLUMNS).reshape(2, COLUMNS)
    assert torch.equal(Parameters.of(table).table(), table)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_shape_precision_and_the_images_when_p_is_zero(channels: int, dtype: torch.dtype) -> None:
    images = torch.rand(4, channels, 16, 12, dtype=dtype).contiguous(memory_format=torch.channels_last)
    assert ALL(images, _draws(4), 1.0).dtype == dtype
    assert ALL(images, _draws(4), 1.0).shape == images.shape
    torch.testing.assert_close(ALL(images, _draws(4), 0.0), images, rtol=0, atol=1e-5)


def test_bfloat16_is_float32_rounded_once_also_under_autocast() -> None:
    images = torch.rand(4, 3, 16, 16).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = ALL(images, _draws(4), 0.8)
    assert torch.equal(rounded, ALL(images.float(), _draws(4), 0.8).bfloat16())


@given(cut=st.integers(1, 7), start=st.integers(0, 10**9))
@settings(deadline=None, max_examples=20)
def test_a_transform_is_a_function_of_the_samples_position_alone(cut: int, start: int) -> None:
    images = torch.rand(8, 3, 8, 8, dtype=torch.float64)
    whole = ALL(images, _draws(8, start), 0.5)
    parts = [ALL(images[rows], _draws(8, start)[rows], 0.5) for rows in (slice(0, cut), slice(cut, 8))]
    # The parameters are float32; sine and exponential round differently in the vector and the scalar part of a loop.
    torch.testing.assert_close(whole, torch.cat(parts), rtol=0, atol=1e-6)


def test_real_and_fake_see_different_transforms() -> None:
    images = torch.rand(8, 3, 8, 8)
    draws = Draws(7, torch.arange(8))
    assert not torch.equal(ALL(images, draws.of("real"), 0.9), ALL(images, draws.of("fake"), 0.9))


@pytest.mark.parametrize("p", [0.2, torch.tensor(0.7)])
def test_how_often_and_how_far(p) -> None:
    n = 20_000
    chosen = ALL.choose(_draws(n), p)
    for name, often in {"luma_flip": 0.5, "x_flip": 0.5, "quarter_turns": 0.75, "hue": 1, "noise": 1}.items():
        share = (getattr(chosen, name) != 0).double().mean().item()
        assert share == pytest.approx(often * float(p), abs=0.015), name
    rotated = ((chosen.turn != 0) | (chosen.second_turn != 0)).double().mean().item()
    assert rotated == pytest.approx(float(p), abs=0.015)
    deviations = {
        "log2_scale": 0.2, "log2_stretch": 0.2, "shift": 0.125, "brightness": 0.2, "log2_contrast": 0.5,
        "log2_saturation": 1.0, "log2_band_gain": 1.0, "integer_shift": 0.125 / math.sqrt(3),
        "hue": math.pi / math.sqrt(3),
    }  # fmt: skip
    for name, deviation in deviations.items():
        values = getattr(chosen, name)
        assert values[values != 0].std().item() == pytest.approx(deviation, rel=0.05), name
        assert torch.isfinite(values).all()


def test_a_pair_shares_its_choice_and_the_bands_do_not() -> None:
    chosen = ALL.choose(_draws(1000), 0.5)
    assert torch.equal(chosen.shift[:, 0] != 0, chosen.shift[:, 1] != 0)
    assert not torch.equal(chosen.log2_band_gain[:, 0] != 0, chosen.log2_band_gain[:, 1] != 0)


def test_multipliers() -> None:
    pipe = AdaConfig(kind="ada", transforms="blit", multipliers={"xint": 0.0, "hue": 0.5}).build()
    assert pipe.multipliers == {"xflip": 1.0, "rotate90": 1.0, "hue": 0.5}
    chosen = pipe.choose(_draws(4000), 0.8)
    assert not chosen.integer_shift.any() and not chosen.brightness.any()
    assert (chosen.hue != 0).double().mean().item() == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize("transforms", SETS)
def test_every_set(transforms) -> None:
    images = torch.rand(8, 3, 8, 8)
    pipe = AdaConfig(kind="ada", transforms=transforms).build()
    assert pipe.multipliers.keys() == set(SETS[transforms])
    assert not torch.allclose(pipe(images, _draws(8), 1.0), images, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_first_and_second_derivatives(channels: int) -> None:
    images = torch.randn(1, channels, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ALL(x, _draws(1), 0.9), images)
    assert torch.autograd.gradgradcheck(lambda x: ALL(x, _draws(1), 0.9).square(), images)


def test_the_inverse_map_undoes_the_transforms_in_order() -> None:
    """The forward map, composed matrix by matrix as algorithm 1 reads, against the closed form."""
    height, width = 12, 20
    parameters = at_percentiles(Parameters.of(torch.rand(5, COLUMNS)), AdaStrengths(), deviations=1.0)
    inverse = inverse_affine(parameters, height, width)

    def matrix(rows) -> torch.Tensor:
        return torch.tensor([*rows, [0, 0, 1]], dtype=torch.float64)

    def rotated(angle: float) -> torch.Tensor:
        cos, sin = math.cos(-angle), math.sin(-angle)
        return matrix([[cos, -sin, 0], [sin, cos, 0]])

    def scaled(x: float, y: float) -> torch.Tensor:
        return matrix([[x, 0, 0], [0, y, 0]])

    def shifted(x: float, y: float) -> torch.Tensor:
        return matrix([[1, 0, x], [0, 1, y]])

    for n in range(5):
        one = {name: getattr(parameters, name)[n].tolist() for name in parameters.__dataclass_fields__}
        forward = scaled(1 - 2 * one["x_flip"], 1)
        forward = rotated(math.pi / 2 * one["quarter_turns"]) @ forward
        x, y = one["integer_shift"]
        forward = shifted(round(x * width), round(y * height)) @ forward
        forward = scaled(2 ** one["log2_scale"], 2 ** one["log2_scale"]) @ forward
        forward = rotated(one["turn"]) @ forward
        forward = scaled(2 ** one["log2_stretch"], 2 ** -one["log2_stretch"]) @ forward
        forward = rotated(one["second_turn"]) @ forward
        x, y = one["shift"]
        forward = shifted(x * width, y * height) @ forward
        torch.testing.assert_close(inverse[n].double(), torch.linalg.inv(forward)[:2], rtol=1e-4, atol=1e-4)


def test_grey_images_keep_the_luma_transforms() -> None:
    """A grey image behaves as RGB with three equal channels would, averaged."""
    grey = torch.rand(2, 1, 4, 4)
    for name, value in {"brightness": 0.3, "contrast": 1.7, "lumaflip": 1, "hue": 2.0, "saturation": 3.0}.items():
        as_rgb = apply_named(name, grey.expand(-1, 3, -1, -1), value).mean(1, keepdim=True)
        torch.testing.assert_close(apply_named(name, grey, value), as_rgb, rtol=1e-5, atol=1e-5)


def test_bands_add_up_and_each_passes_its_octave() -> None:
    size = 256
    filters = _band_filters(size, torch.float64, torch.device("cpu"))
    torch.testing.assert_close(filters.sum(0), torch.eye(size, dtype=torch.float64), rtol=0, atol=1e-12)
    pixel = torch.arange(size, dtype=torch.float64)
    for band, frequency in enumerate([1 / 32, 3 / 16, 3 / 8, 3 / 4]):  # the middle of each octave, 1 is Nyquist's
        wave = torch.cos(math.pi * frequency * pixel)
        passed = (filters @ wave)[:, 64:-64].square().mean(1).sqrt() / wave[64:-64].square().mean().sqrt()
        assert passed.argmax() == band and passed[band] > 0.7, (band, passed)


def test_amplifying_a_band_keeps_the_expected_power() -> None:
    """White noise in each octave of a 1 / f image: amplified, the total power stays about the same."""
    neutral = torch.zeros(1, COLUMNS)
    gains = torch.tensor([[0.5, -0.3, 0.8, 0.2]])
    filters = _band_filters(64, torch.float32, torch.device("cpu"))
    power = torch.tensor([10.0, 1, 1, 1]) / 13
    parameters = Parameters.of(neutral)
    amplified = amplify_bands(
        torch.eye(64)[None, None], type(parameters)(**{**vars(parameters), "log2_band_gain": gains})
    )
    factors = []
    for step in range(4):
        t = torch.ones(4)
        t[step] = 2 ** gains[0, step]
        factors.append(t / (power * t.square()).sum().sqrt())
    expected = torch.einsum("b,bij->ij", torch.stack(factors).prod(0), filters)
    torch.testing.assert_close(amplified[0, 0], expected @ expected.T, rtol=1e-4, atol=1e-5)


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"unknown transform 'contrasts' \(did you mean 'contrast'\?\)"):
        apply_named("contrasts", torch.rand(1, 3, 4, 4), 1.0)


class _Run(Config):
    augment: AugmentConfig


def test_configs() -> None:
    config = parse_config(
        _Run,
        {"augment": {"kind": "ada", "multipliers": {"hue": 0.5}, "probability": {"kind": "fixed", "p": 0.3}}},
        source="run.yaml",
    )
    pipe = config.augment.build()
    assert isinstance(pipe, AdaPipe) and pipe.multipliers["hue"] == 0.5
    for wrong, told in (
        ({"kind": "adaa"}, r"unknown augment.kind 'adaa' \(did you mean 'ada'\?\)"),
        (
            {"kind": "ada", "probability": {"kind": "fixed", "p": 1.5}},
            r"'augment.probability': p is a probability, from 0 to 1, not 1\.5",
        ),
        ({"kind": "ada", "transforms": "bcg"}, r"'augment.transforms'.*'bgc'.*got 'bcg'"),
        ({"kind": "ada", "multipliers": {"flip": 1.0}}, r"'augment.multipliers.flip.*'xflip'"),
    ):
        with pytest.raises(ConfigError, match=told):
            parse_config(_Run, {"augment": wrong}, source="run.yaml")

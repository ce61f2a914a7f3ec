"""What the style-based families promise beyond what every family does."""

import pytest
import torch

from bigtrain.core.rng import Draws
from bigtrain.models import ImageSpec
from bigtrain.models.stylegan1 import StyleGAN1GeneratorConfig
from bigtrain.models.stylegan2 import StyleGAN2DiscriminatorConfig, StyleGAN2GeneratorConfig
from bigtrain.models.stylegan3 import StyleGAN3GeneratorConfig, layer_plan

SMALL = {"z_dim": 12, "w_dim": 16, "mapping_layers": 2, "channel_base": 256, "channel_max": 16}
SMALL_D = {"channel_base": 256, "channel_max": 16, "mapping_layers": 2}
GENERATORS = [
    StyleGAN2GeneratorConfig(**SMALL),
    StyleGAN2GeneratorConfig(architecture="resnet", **SMALL),
    StyleGAN1GeneratorConfig(growth=None, **SMALL),
    StyleGAN3GeneratorConfig(**SMALL),
    StyleGAN3GeneratorConfig(variant="r", **SMALL),
]
DISCRIMINATORS = [StyleGAN2DiscriminatorConfig(architecture=name, **SMALL_D) for name in ("orig", "skip", "resnet")]


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("generator", "discriminator", "resolution", "parameters"),
    [
        (
            StyleGAN2GeneratorConfig(mapping_layers=2, channel_base=16384),
            StyleGAN2DiscriminatorConfig(channel_base=16384),
            64,
            (22_243_608, 23_407_361),
        ),
        (
            StyleGAN2GeneratorConfig(mapping_layers=2),
            StyleGAN2DiscriminatorConfig(architecture="orig"),
            32,
            (19_947_539, 20_720_641),
        ),
        (
            StyleGAN3GeneratorConfig(channel_base=16384),
            StyleGAN2DiscriminatorConfig(channel_base=16384),
            64,
            (32_300_555, 23_407_361),
        ),
    ],
)
def test_as_many_parameters_as_the_reference(generator, discriminator, resolution: int, parameters) -> None:
    image = ImageSpec(resolution, 3)
    with torch.device("meta"):
        assert (count(generator.build(image)), count(discriminator.build(image))) == parameters


@pytest.mark.parametrize("config", GENERATORS)
@pytest.mark.parametrize("image", [ImageSpec(16, 1, width=32), ImageSpec(24, 2, 3, width=16), ImageSpec(32, 4)])
def test_any_shape_and_number_of_channels(config, image: ImageSpec) -> None:
    generator = config.build(image)
    with torch.autocast("cpu", torch.bfloat16):
        images = generator(torch.randn(2, 12), torch.tensor([0, 1]), draws=Draws(0, torch.arange(2), "g"))
    assert images.shape == (2, *image.shape)
    assert images.isfinite().all()
    images.square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in generator.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("config", DISCRIMINATORS)
@pytest.mark.parametrize("image", [ImageSpec(16, 1, width=32), ImageSpec(24, 2, 3, width=16)])
def test_discriminators_judge_any_shape(config, image: ImageSpec) -> None:
    network = config.build(image)
    features = network.features(torch.randn(4, *image.shape), torch.arange(4) % 3)
    assert features[-1].shape == (4, network.features_dim)
    assert network.head(features[-1], torch.arange(4) % 3).shape == (4,)


@pytest.mark.parametrize("config", [*GENERATORS, *DISCRIMINATORS])
def test_built_without_memory_and_initialised_in_place(config) -> None:
    image = ImageSpec(16, 3, 3)
    expected = config.build(image)
    with torch.device("meta"):
        network = config.build(image)
    assert {tensor.device.type for tensor in [*network.parameters(), *network.buffers()]} == {"meta"}
    network.to_empty(device="cpu")
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    for name, buffer in expected.named_buffers():
        if name not in expected.state_dict():  # a constant
            torch.testing.assert_close(network.get_buffer(name), buffer)
    for name, parameter in expected.named_parameters():
        drawn = network.get_parameter(name)
        if parameter.numel() > 1000:
            torch.testing.assert_close(drawn.std(), parameter.std(), rtol=0.2, atol=0.0)
        elif (parameter == parameter.flatten()[0]).all():
            assert torch.equal(drawn, parameter), name


def test_the_largest_generator_needs_no_memory_to_be_built() -> None:
    with torch.device("meta"):
        assert count(StyleGAN2GeneratorConfig().build(ImageSpec(1024, 3))) == 30_370_060


@pytest.mark.parametrize("config", GENERATORS)
def test_truncation_of_the_first_layers_only(config) -> None:
    generator = config.build(ImageSpec(16, 3))
    z, label = torch.randn(2, 12), torch.zeros(2, dtype=torch.int64)
    whole = generator.styles(z, label)
    generator.calibrate(torch.randn(64, 12), torch.zeros(64, dtype=torch.int64))
    truncated = generator.styles(z, label, truncation=0.0, cutoff=3)
    assert torch.equal(truncated[:, 3:], whole[:, 3:])
    assert torch.equal(truncated[:, :3], generator.w_avg.expand(2, 3, -1))


def test_noise_is_drawn_constant_or_not_there() -> None:
    image, ws = ImageSpec(16, 3), torch.randn(1, 6, 16).expand(2, -1, -1)
    draws = Draws(0, torch.arange(2), "g")
    images = {}
    for noise in ("random", "constant", "none"):
        torch.manual_seed(1)
        generator = StyleGAN2GeneratorConfig(noise=noise, **SMALL).build(image)
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength"):
                torch.nn.init.ones_(parameter)
        images[noise] = generator.synthesize(ws, draws=draws)
        assert torch.equal(generator.synthesize(ws)[0], generator.synthesize(ws)[1])
    assert not torch.equal(images["random"][0], images["random"][1])
    assert torch.equal(images["constant"][0], images["constant"][1])
    assert torch.equal(images["none"][0], images["none"][1])
    assert "noise" not in " ".join(generator.state_dict())


def moved(generator, degrees: float = 0.0, right: float = 0.0) -> torch.Tensor:
    """One latent's image, its content turned and moved by way of the input."""
    angle = torch.deg2rad(torch.tensor(degrees))
    generator.synthesis.input.transform.copy_(
        torch.tensor([[angle.cos(), angle.sin(), -right], [-angle.sin(), angle.cos(), 0.0], [0.0, 0.0, 1.0]])
    )
    z = torch.randn(1, 12, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        image: torch.Tensor = generator(z, torch.zeros(1, dtype=torch.int64))[0]
    return image


@pytest.mark.parametrize("variant", ["t", "r"])
def test_stylegan3_moves_its_content_with_its_input(variant: str) -> None:
    generator = StyleGAN3GeneratorConfig(variant=variant, **SMALL).build(ImageSpec(32, 3)).eval()
    still, right = moved(generator), moved(generator, right=5 / 32)
    error = (right[..., 5:] - still[..., :-5]).square().mean() / still.var()
    assert error < 1e-3  # 30 dB
    assert (right - still).square().mean() > 0.1 * still.var()


def test_stylegan3_r_turns_its_content_with_its_input() -> None:
    errors = {}
    for variant in ("t", "r"):
        generator = StyleGAN3GeneratorConfig(variant=variant, **SMALL).build(ImageSpec(32, 3)).eval()
        still, turned = moved(generator), moved(generator, degrees=90.0)
        candidates = [still.rot90(quarter, (1, 2)) for quarter in (1, 3)]
        errors[variant] = min(((turned - image).square().mean() / still.var()).item() for image in candidates)
    assert errors["r"] < 1e-3
    assert errors["t"] > 0.1


def test_stylegan3_tracks_magnitudes_in_training_over_all_ranks() -> None:
    generator = StyleGAN3GeneratorConfig(magnitude_decay=0.5, **SMALL).build(ImageSpec(16, 3))
    generator.synthesis.over_ranks = lambda magnitudes: magnitudes * 0 + 3.0
    z, label = torch.randn(2, 12), torch.zeros(2, dtype=torch.int64)
    before = generator(z, label)
    averages = [buffer for name, buffer in generator.named_buffers() if name.endswith("magnitude_ema")]
    assert all(average == 2.0 for average in averages)
    generator.eval()
    assert (generator(z, label) - before).abs().max() > 1e-3, "the layers use the average"
    assert all(average == 2.0 for average in averages), "and sampling leaves it alone"


def test_stylegan3_keeps_the_magnitude_of_activations() -> None:
    generator = StyleGAN3GeneratorConfig(magnitude_decay=1e-6, layers=6, **SMALL).build(ImageSpec(16, 3))
    ws = torch.randn(2, generator.num_ws, 16)
    for _ in generator.synthesis.layers():  # one layer after the other finds its magnitude
        generator.synthesize(ws)
    x = generator.synthesis.input(ws[:, 0])
    for layer in generator.synthesis.layers()[:-1]:
        x = layer(x, ws[:, 1])
        assert 0.3 < x.square().mean().sqrt() < 3.0


def test_stylegan3_plan_is_the_papers() -> None:
    plan = layer_plan(StyleGAN3GeneratorConfig(), ImageSpec(1024, 3))
    sizes = [36, 36, 52, 52, 84, 148, 148, 276, 276, 532, 1044, 1044, 1044, 1024, 1024]
    widths = [512, 512, 512, 512, 512, 512, 512, 323, 203, 128, 81, 51, 32, 32, 3]
    assert [layer.size for layer in plan] == [(size, size) for size in sizes]
    assert [layer.channels for layer in plan] == widths
    assert [layer.rate for layer in plan] == [16, 16, 32, 32, 64, 128, 128, 256, 256, 512, *[1024] * 5]


@pytest.mark.parametrize(
    ("config", "image", "words"),
    [
        (StyleGAN2GeneratorConfig(), ImageSpec(16, 3, width=18), "multiple"),
        (StyleGAN3GeneratorConfig(), ImageSpec(48, 3), "power of two"),
        (StyleGAN3GeneratorConfig(critical_layers=14), ImageSpec(32, 3), "critical_layers"),
        (StyleGAN3GeneratorConfig(first_cutoff=8.0, first_stopband=1.0), ImageSpec(256, 3), "stopband"),
    ],
)
def test_an_impossible_shape_is_refused(config, image: ImageSpec, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config.build(image)

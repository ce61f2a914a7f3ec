"""Networks from images to images, and the discriminators that judge them patch by patch."""

import copy

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from bigtrain.core.rng import Draws
from bigtrain.models import ImageSpec, TranslationDiscriminatorConfig, TranslatorConfig
from bigtrain.models.initialise import initialise
from bigtrain.models.layers.normalisation import InstanceNorm
from bigtrain.models.patch import PatchDiscriminatorConfig, PixelDiscriminatorConfig
from bigtrain.models.pix2pix_unet import Pix2PixUNetConfig
from bigtrain.models.recompute import recompute_stages
from bigtrain.models.resnet_translator import ResNetTranslatorConfig
from bigtrain.models.superresolution import SRResNetConfig, UNetDiscriminatorConfig

SOURCE, TARGET = ImageSpec(16, 1, width=32), ImageSpec(16, 3, width=32)
TRANSLATORS = [
    Pix2PixUNetConfig(width=4),
    Pix2PixUNetConfig(width=4, norm="instance", downs=2, dropout=0.3),
    Pix2PixUNetConfig(width=4, norm="none", dropout_blocks=9),
    ResNetTranslatorConfig(width=4, blocks=2, dropout=0.5),
    ResNetTranslatorConfig(width=4, blocks=1, dropout=0.5, norm="batch", padding="zero", downs=1),
    ResNetTranslatorConfig(width=4, blocks=1, dropout=0.5, norm="none", padding="replicate", downs=3),
]
DISCRIMINATORS = [
    PatchDiscriminatorConfig(width=4, layers=1),
    PatchDiscriminatorConfig(width=4, layers=2, norm="instance"),
    PatchDiscriminatorConfig(width=4, layers=2, norm="none", spectral=True),
    PixelDiscriminatorConfig(width=4),
    PixelDiscriminatorConfig(width=4, norm="instance", spectral=True),
]
draws = Draws(0, torch.arange(4), "g")


def built(config, source: ImageSpec, target: ImageSpec | None, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    with torch.device("meta"):
        network = config.build(source, target)
    network.to_empty(device="cpu")
    initialise(network)
    return network.to(memory_format=torch.channels_last)


def images(spec: ImageSpec, seed: int = 0) -> torch.Tensor:
    image = torch.rand(4, *spec.shape, generator=torch.Generator().manual_seed(seed))
    return (2 * image - 1).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("config", TRANSLATORS)
def test_a_translator_makes_its_outputs(config) -> None:
    network = built(config, SOURCE, TARGET).eval()
    image = images(SOURCE)
    output = network(image)
    assert output.shape == (4, *TARGET.shape)
    assert output.dtype == torch.float32
    assert output.abs().max() <= 1.0
    torch.testing.assert_close(network(image[1:3]), output[1:3], rtol=1e-4, atol=1e-6)
    twice = torch.cat([image, image.flip(3)], dim=3)
    assert network(twice).shape == (4, 3, 16, 64), "a translator takes any size that it can divide"
    with torch.autocast("cpu", torch.bfloat16):
        near = network(image)
    assert near.dtype == torch.float32
    torch.testing.assert_close(near, output, rtol=0.0, atol=0.1)
    assert set(network.stages()) <= set(network.modules())


@pytest.mark.parametrize("config", TRANSLATORS)
def test_dropout_is_a_function_of_the_draws_of_each_sample(config) -> None:
    network = built(config, SOURCE, TARGET).eval()
    image = images(SOURCE)
    drawn = network(image, draws)
    assert not torch.equal(drawn, network(image)), "there is no noise"
    assert torch.equal(drawn, network(image, draws))
    torch.testing.assert_close(drawn[1:3], network(image[1:3], draws[1:3]), rtol=1e-4, atol=1e-6)
    assert not torch.equal(drawn, network(image, Draws(1, torch.arange(4), "g")))
    quiet = built(config.model_copy(update={"dropout": 0.0}), SOURCE, TARGET).eval()
    assert torch.equal(quiet(image, draws), quiet(image))


@pytest.mark.parametrize("config", TRANSLATORS)
def test_every_parameter_of_a_translator_learns_and_may_be_recomputed(config) -> None:
    plain = built(config, SOURCE, TARGET)
    again = copy.deepcopy(plain)
    recompute_stages(again)
    for network in (plain, again):
        (network(images(SOURCE), draws) - images(TARGET)).abs().mean().backward()
    gradients = {name: value.grad for name, value in plain.named_parameters()}
    for name, value in again.named_parameters():
        assert value.grad is not None, name
        torch.testing.assert_close(value.grad, gradients[name], rtol=1e-4, atol=1e-7, msg=name)
    idle = {name for name, value in again.named_parameters() if value.grad.abs().max() == 0}
    before_norm = {name for name, module in again.named_modules() if getattr(module, "idle_bias", False)}
    assert idle == {f"{name}.bias" for name in before_norm}, "a parameter does not learn, or a useless bias moves"
    assert bool(idle) == (config.norm == "instance")
    for name, value in again.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), f"{name}: the state moved otherwise"


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("config", DISCRIMINATORS)
def test_a_patch_discriminator_judges_and_has_second_derivatives(config, conditional: bool) -> None:
    network = built(config, TARGET, SOURCE if conditional else None)
    image, condition = images(TARGET).requires_grad_(), images(SOURCE) if conditional else None
    for precision in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            logits = network(image, condition)
            assert logits.shape[:2] == (4, 1)
            assert logits.dtype == torch.float32
            (gradient,) = torch.autograd.grad(logits.square().sum(), image, create_graph=True)
            penalty = gradient.square().sum()
        (penalty + logits.sum()).backward()
    for name, value in network.named_parameters():
        assert value.grad is not None, name
        assert value.grad.isfinite().all(), name
    network.eval()
    assert torch.equal(network.head(network.features(image, condition)[-1]), network(image, condition))
    assert len(network.features(image, condition)) == len(network.stages())
    if conditional:
        assert not torch.equal(network(image, condition), network(image, condition.flip(0)))


def test_a_condition_is_given_if_and_only_if_there_is_one() -> None:
    config = PixelDiscriminatorConfig(width=4)
    with pytest.raises(ValueError, match="built with a condition"):
        config.build(TARGET, SOURCE)(images(TARGET))
    with pytest.raises(ValueError, match="built without a condition"):
        config.build(TARGET, None)(images(TARGET), images(SOURCE))


@pytest.mark.parametrize(("layers", "size", "seen"), [(1, 64, 16), (2, 64, 34), (3, 96, 70)])
def test_a_logit_sees_the_patch_of_the_paper(layers: int, size: int, seen: int) -> None:
    network = built(PatchDiscriminatorConfig(width=2, layers=layers, norm="none"), ImageSpec(size, 1), None)
    image = torch.randn(1, 1, size, size, requires_grad=True)
    logits = network(image)
    middle = logits.shape[2] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], image)
    touched = gradient[0, 0].abs().sum(0).nonzero()
    assert touched.max() - touched.min() + 1 == seen


def test_downs_by_resolution() -> None:
    with torch.device("meta"):
        networks = [Pix2PixUNetConfig().build(ImageSpec(size, 3), ImageSpec(size, 3)) for size in (64, 256, 512, 96)]
    assert [network.multiple for network in networks] == [64, 256, 256, 32]
    with torch.device("meta"):
        blocks = [
            len(ResNetTranslatorConfig().build(image, image).blocks) for image in map(ImageSpec, *[(128, 256), (3, 3)])
        ]
    assert blocks == [6, 9]


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_weights_start_normal_with_deviation_002(norm) -> None:
    for network in (
        built(Pix2PixUNetConfig(width=16, norm=norm), SOURCE, TARGET),
        built(PatchDiscriminatorConfig(width=32, layers=1, norm=norm), TARGET, None),
    ):
        for name, value in network.named_parameters():
            if value.ndim == 4 and value.numel() > 1000:
                assert value.std().item() == pytest.approx(0.02, rel=0.1), name
            elif name.endswith("bias"):
                assert value.abs().max() == 0, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_instance_norm(dtype: torch.dtype) -> None:
    x = (3.0 + torch.randn(2, 5, 6, 7)).to(dtype).contiguous(memory_format=torch.channels_last)
    y = InstanceNorm(5)(x)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    wide = x.double()
    var, mean = torch.var_mean(wide, (2, 3), correction=0, keepdim=True)
    expected = (wide - mean) / (var + 1e-5).sqrt()
    torch.testing.assert_close(y.double(), expected, rtol=0.0, atol=2e-2 if dtype == torch.bfloat16 else 1e-5)


@pytest.mark.parametrize(
    ("config", "source", "target", "words"),
    [
        (Pix2PixUNetConfig(downs=5), ImageSpec(48, 3), ImageSpec(48, 3), "pix2pix_unet: 48x48 .* multiples of 32"),
        (Pix2PixUNetConfig(), ImageSpec(50, 3), ImageSpec(50, 3), "pix2pix_unet: 50x50 .* multiples of 4"),
        (Pix2PixUNetConfig(), ImageSpec(16, 3), ImageSpec(32, 3), "not 32x32 from 16x16"),
        (ResNetTranslatorConfig(), ImageSpec(50, 3), ImageSpec(50, 3), "resnet_translator: 50x50 .* multiples of 4"),
        (ResNetTranslatorConfig(downs=4), ImageSpec(16, 3), ImageSpec(16, 3), "use fewer downs"),
        (PatchDiscriminatorConfig(), ImageSpec(16, 3), None, "3 layers need images of 24 pixels or more"),
        (PatchDiscriminatorConfig(), ImageSpec(64, 3), ImageSpec(32, 3), "32x32 pixels, but the images have 64x64"),
    ],
)
def test_an_impossible_shape_is_refused(config, source: ImageSpec, target: ImageSpec | None, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        config.build(source, target)
    assert "\n" not in str(caught.value)


def test_an_input_that_cannot_be_divided_is_refused() -> None:
    network = built(ResNetTranslatorConfig(width=4, blocks=1), SOURCE, TARGET)
    with pytest.raises(ValueError, match="resnet_translator: 18x32 pixels: height and width must be multiples of 4"):
        network(torch.zeros(1, 1, 18, 32))


def test_reachable_by_name() -> None:
    translators, discriminators = TypeAdapter(TranslatorConfig), TypeAdapter(TranslationDiscriminatorConfig)
    assert translators.validate_json('{"kind": "pix2pix_unet", "downs": 7}') == Pix2PixUNetConfig(downs=7)
    assert translators.validate_json('{"kind": "resnet_translator", "norm": "batch"}').norm == "batch"
    assert translators.validate_json('{"kind": "srresnet"}') == SRResNetConfig()
    assert discriminators.validate_json('{"kind": "patch", "layers": 5}') == PatchDiscriminatorConfig(layers=5)
    assert discriminators.validate_json('{"kind": "unet"}') == UNetDiscriminatorConfig()
    with pytest.raises(ValidationError, match="resnet_translator"):
        translators.validate_json('{"kind": "resnet"}')


@pytest.mark.parametrize("samples", [1, 2])
def test_instance_normalisation_has_the_gradients_of_its_equation(samples: int) -> None:
    """PyTorch's own are wrong for one sample whose output has a gradient in channels_last."""
    torch.manual_seed(0)
    x, grad = torch.randn(2, samples, 6, 5, 7, dtype=torch.float64)
    grad = grad.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    centred = x - x.mean((2, 3), keepdim=True)
    expected = centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
    found = InstanceNorm(6)(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, x, grad), torch.autograd.grad(expected, x, grad))

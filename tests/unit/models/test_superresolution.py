import pytest
import torch
from pydantic import TypeAdapter

from bigtrain.models import ImageSpec, TranslationDiscriminatorConfig, TranslatorConfig
from bigtrain.models.superresolution import (
    RRDBConfig,
    SRResNetConfig,
    UNetDiscriminatorConfig,
    VGGDiscriminatorConfig,
)
from tests.unit.models.test_image_shapes import refill

IMAGE = ImageSpec(48, 4, width=96)
UPSCALERS = [
    *(RRDBConfig(scale=scale, width=8, blocks=1, growth=4) for scale in (1, 2, 4, 8)),
    RRDBConfig(scale=2, width=8, blocks=1, growth=4, add_bicubic=True),
    *(SRResNetConfig(scale=scale, width=8, blocks=1) for scale in (2, 3, 4, 8)),
]


def small(scale: int) -> ImageSpec:
    return ImageSpec(48 // scale, 4, width=96 // scale)


@pytest.mark.parametrize("config", UPSCALERS)
def test_an_upscaler_enlarges(config) -> None:
    with torch.device("meta"):
        network = config.build(small(config.scale), IMAGE)
    refill(network)
    low = torch.rand(2, *small(config.scale).shape)
    with torch.autocast("cpu", torch.bfloat16):
        high = network(low)
    assert high.shape == (2, *IMAGE.shape)
    assert high.dtype == torch.float32
    assert set(network.stages()) <= set(network.modules())


def test_srresnet_starts_near_the_bilinear_enlargement() -> None:
    low = 2.0 * torch.rand(1, 3, 12, 12) - 1.0
    network = SRResNetConfig(scale=2, width=16, blocks=2).build(ImageSpec(12, 3), ImageSpec(24, 3))
    bilinear = torch.nn.functional.interpolate(low, scale_factor=2, mode="bilinear")
    assert (network(low) - bilinear).abs().max() < 0.1


def test_rrdb_starts_near_the_bicubic_enlargement_if_asked() -> None:
    low = 2.0 * torch.rand(1, 3, 12, 12) - 1.0
    config = RRDBConfig(scale=2, width=16, blocks=2, add_bicubic=True)
    network = config.build(ImageSpec(12, 3), ImageSpec(24, 3))
    bicubic = torch.nn.functional.interpolate(low, scale_factor=2, mode="bicubic")
    difference = (network(low) - bicubic).abs().max()
    assert 0 < difference < 0.1
    plain = config.model_copy(update={"add_bicubic": False}).build(ImageSpec(12, 3), ImageSpec(24, 3))
    plain.load_state_dict(network.state_dict())
    torch.testing.assert_close(network(low), plain(low) + 1 + bicubic, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "shape"),
    [(UNetDiscriminatorConfig(width=4), (2, 1, 48, 96)), (VGGDiscriminatorConfig(width=4), (2, 1, 1, 1))],
)
def test_a_discriminator_judges_pixels_or_images(config, shape: tuple[int, ...]) -> None:
    network = config.build(IMAGE, IMAGE)
    refill(network)
    real, condition = torch.rand(2, *IMAGE.shape, requires_grad=True), torch.rand(2, *IMAGE.shape)
    logits = network(real, condition)
    assert logits.shape == shape
    assert torch.equal(network.eval()(real, condition), network.head(network.features(real, condition)[-1]))
    network.train()
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    gradient.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_training_moves_the_singular_vectors_and_two_forwards_have_one_backward() -> None:
    network = UNetDiscriminatorConfig(width=4).build(IMAGE, None)
    before = network.conv1.u.clone()
    real = torch.rand(2, *IMAGE.shape)
    (network(real).mean() - network(1.0 - real).mean()).backward()
    assert not torch.equal(network.conv1.u, before)
    moved = network.conv1.u.clone()
    network.eval()(real)
    assert torch.equal(network.conv1.u, moved)


def test_reachable_by_name() -> None:
    assert isinstance(TypeAdapter(TranslatorConfig).validate_json('{"kind": "rrdb", "scale": 2}'), RRDBConfig)
    assert isinstance(
        TypeAdapter(TranslationDiscriminatorConfig).validate_json('{"kind": "vgg"}'), VGGDiscriminatorConfig
    )


@pytest.mark.parametrize(
    ("config", "images", "words"),
    [
        (RRDBConfig(scale=3), (ImageSpec(16, 3), ImageSpec(48, 3)), "use 1, 2, 4"),
        (RRDBConfig(scale=1), (ImageSpec(30, 3), ImageSpec(30, 3)), "rrdb: 30x30 pixels: .* multiples of 4"),
        (SRResNetConfig(scale=4), (ImageSpec(12, 3), ImageSpec(50, 3)), "50x50 are not 4 times as large as .* 12x12"),
        (SRResNetConfig(scale=4), (ImageSpec(12, 1), ImageSpec(48, 3)), "keeps the number of channels"),
        (UNetDiscriminatorConfig(), (ImageSpec(50, 3), None), "cannot be halved"),
        (VGGDiscriminatorConfig(), (ImageSpec(4, 3), None), "cannot be halved"),
        (VGGDiscriminatorConfig(), (ImageSpec(16, 3), ImageSpec(8, 3)), "8x8 pixels, but the images have 16x16"),
    ],
)
def test_an_impossible_shape_is_refused(config, images: tuple[ImageSpec, ImageSpec | None], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config.build(*images)

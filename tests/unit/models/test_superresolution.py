import pytest
import torch
from pydantic import TypeAdapter

from bigtrain.models import ImageSpec, UpscalerConfig, UpscalerDiscriminatorConfig
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
    *(SRResNetConfig(scale=scale, width=8, blocks=1) for scale in (2, 3, 4, 8)),
]
LABEL = torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize("config", UPSCALERS)
def test_an_upscaler_enlarges(config) -> None:
    with torch.device("meta"):
        network = config.build(IMAGE)
    refill(network)
    low = torch.rand(2, 4, 48 // config.scale, 96 // config.scale)
    with torch.autocast("cpu", torch.bfloat16):
        high = network(low)
    assert high.shape == (2, *IMAGE.shape)
    assert high.dtype == torch.float32
    assert set(network.stages()) <= set(network.modules())


def test_srresnet_starts_near_the_bilinear_enlargement() -> None:
    low = torch.rand(1, 3, 12, 12)
    network = SRResNetConfig(scale=2, width=16, blocks=2).build(ImageSpec(24, 3))
    bilinear = torch.nn.functional.interpolate(low, scale_factor=2, mode="bilinear")
    assert (network(low) - bilinear).abs().max() < 0.05


@pytest.mark.parametrize(
    ("config", "shape"), [(UNetDiscriminatorConfig(width=4), (2, 48, 96)), (VGGDiscriminatorConfig(width=4), (2,))]
)
def test_a_discriminator_judges_pixels_or_images(config, shape: tuple[int, ...]) -> None:
    network = config.build(IMAGE)
    refill(network)
    real = torch.rand(2, *IMAGE.shape, requires_grad=True)
    logits = network(real, LABEL)
    assert logits.shape == shape
    *_, last = network.features(real, LABEL)
    assert last.shape[:2] == (2, network.features_dim)
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    gradient.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_training_moves_the_singular_vectors_and_two_forwards_have_one_backward() -> None:
    network = UNetDiscriminatorConfig(width=4).build(IMAGE)
    before = network.conv1.u.clone()
    real = torch.rand(2, *IMAGE.shape)
    (network(real, LABEL).mean() - network(1.0 - real, LABEL).mean()).backward()
    assert not torch.equal(network.conv1.u, before)
    moved = network.conv1.u.clone()
    network.eval()(real, LABEL)
    assert torch.equal(network.conv1.u, moved)


def test_reachable_by_name() -> None:
    assert isinstance(TypeAdapter(UpscalerConfig).validate_json('{"kind": "rrdb", "scale": 2}'), RRDBConfig)
    assert isinstance(TypeAdapter(UpscalerDiscriminatorConfig).validate_json('{"kind": "vgg"}'), VGGDiscriminatorConfig)


@pytest.mark.parametrize(
    ("config", "image", "words"),
    [
        (RRDBConfig(scale=3), ImageSpec(48, 3), "use 1, 2, 4"),
        (SRResNetConfig(scale=4), ImageSpec(50, 3), "not 4 times as large"),
        (UNetDiscriminatorConfig(), ImageSpec(50, 3), "cannot be halved"),
        (VGGDiscriminatorConfig(), ImageSpec(4, 3), "cannot be halved"),
    ],
)
def test_an_impossible_shape_is_refused(config, image: ImageSpec, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config.build(image)

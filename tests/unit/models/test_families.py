"""What every family must do, whatever its shape."""

import pytest
import torch

from bigtrain.core.rng import Draws
from bigtrain.models import ImageSpec
from bigtrain.models.biggan import BigGANDiscriminatorConfig, BigGANGeneratorConfig
from bigtrain.models.biggan_deep import BigGANDeepDiscriminatorConfig, BigGANDeepGeneratorConfig
from bigtrain.models.cgan import CGANDiscriminatorConfig, CGANGeneratorConfig
from bigtrain.models.dcgan import DCGANDiscriminatorConfig, DCGANGeneratorConfig
from bigtrain.models.mlp import MLPDiscriminatorConfig, MLPGeneratorConfig
from bigtrain.models.progan import ProGANDiscriminatorConfig, ProGANGeneratorConfig
from bigtrain.models.r3gan import R3GANDiscriminatorConfig, R3GANGeneratorConfig
from bigtrain.models.sagan import SAGANDiscriminatorConfig, SAGANGeneratorConfig
from bigtrain.models.sngan import SNGANDiscriminatorConfig, SNGANGeneratorConfig
from bigtrain.models.stylegan1 import StyleGAN1DiscriminatorConfig, StyleGAN1GeneratorConfig
from bigtrain.models.stylegan2 import StyleGAN2DiscriminatorConfig, StyleGAN2GeneratorConfig
from bigtrain.models.stylegan3 import StyleGAN3GeneratorConfig
from bigtrain.models.vit import ViTDiscriminatorConfig, ViTGeneratorConfig
from bigtrain.models.wgan import WGANDiscriminatorConfig

SMALL_PROGAN = {"channel_base": 256, "channel_max": 16}
SMALL_STYLEGAN = {"channel_base": 256, "channel_max": 16, "conv_clamp": 256.0}
GENERATORS = [
    BigGANGeneratorConfig(z_dim=12, width=4),
    BigGANGeneratorConfig(z_dim=12, width=8, shared_dim=8, hierarchical=True, attention=(16,)),
    BigGANGeneratorConfig(z_dim=12, width=4, multiples=(4, 2, 2, 1)),
    BigGANDeepGeneratorConfig(z_dim=12, width=8, depth=2, shared_dim=4, attention=(8,), init="xavier"),
    CGANGeneratorConfig(z_dim=12, hidden=20, label_hidden=30, joint=40),
    DCGANGeneratorConfig(z_dim=12, width=4),
    DCGANGeneratorConfig(z_dim=12, width=4, norm="layer"),
    MLPGeneratorConfig(z_dim=12, hidden=(32, 24), label_dim=4),
    R3GANGeneratorConfig(z_dim=12, widths=(16, 16, 16, 8), groups=(4, 4, 4, 2), blocks=(1, 1, 2, 1)),
    SAGANGeneratorConfig(z_dim=12, width=8),
    SNGANGeneratorConfig(z_dim=12, width=4),
    StyleGAN2GeneratorConfig(z_dim=12, w_dim=16, mapping_layers=2, architecture="skip", **SMALL_STYLEGAN),
    StyleGAN2GeneratorConfig(z_dim=12, w_dim=16, mapping_layers=2, architecture="orig", **SMALL_STYLEGAN),
    StyleGAN2GeneratorConfig(z_dim=12, w_dim=16, mapping_layers=2, architecture="resnet", **SMALL_STYLEGAN),
    ProGANGeneratorConfig(z_dim=12, growth=None, **SMALL_PROGAN),
    ProGANGeneratorConfig(z_dim=12, **SMALL_PROGAN),
    StyleGAN1GeneratorConfig(z_dim=12, w_dim=16, mapping_layers=2, growth=None, **SMALL_PROGAN),
    StyleGAN1GeneratorConfig(z_dim=12, w_dim=16, mapping_layers=2, **SMALL_PROGAN),
    StyleGAN3GeneratorConfig(z_dim=12, w_dim=16, mapping_layers=2, variant="t", **SMALL_STYLEGAN),
    StyleGAN3GeneratorConfig(z_dim=12, w_dim=16, mapping_layers=2, variant="r", **SMALL_STYLEGAN),
    ViTGeneratorConfig(z_dim=12, w_dim=16, width=24, heads=3, depth=2, patch=8),
    ViTGeneratorConfig(z_dim=12, w_dim=16, width=24, heads=3, depth=1, patch=8, painter="linear"),
]
DISCRIMINATORS = [
    BigGANDiscriminatorConfig(width=4),
    BigGANDiscriminatorConfig(width=8, attention=(16,), multiples=(1, 2, 2, 2), halvings=3),
    BigGANDeepDiscriminatorConfig(width=8, depth=2, attention=(16,), power_iterations=2),
    CGANDiscriminatorConfig(hidden=(16, 3), label_hidden=(8, 2), joint=(12, 2)),
    DCGANDiscriminatorConfig(width=4, label_dim=2),
    DCGANDiscriminatorConfig(width=4, norm="none", conditioning="projection"),
    MLPDiscriminatorConfig(hidden=(32, 24), label_dim=4),
    R3GANDiscriminatorConfig(widths=(16, 16, 16, 8), groups=(4, 4, 4, 2), blocks=(1, 1, 2, 1)),
    SAGANDiscriminatorConfig(width=8, attention=(8,)),
    SNGANDiscriminatorConfig(width=4),
    StyleGAN2DiscriminatorConfig(architecture="resnet", **SMALL_STYLEGAN),
    StyleGAN2DiscriminatorConfig(architecture="skip", mbstd_channels=0, **SMALL_STYLEGAN),
    StyleGAN2DiscriminatorConfig(architecture="orig", **SMALL_STYLEGAN),
    ViTDiscriminatorConfig(width=24, heads=3, depth=2, patch=8),
    ViTDiscriminatorConfig(width=24, heads=3, depth=1, patch=8, overlap=0, similarity="dot", spectral=False),
    WGANDiscriminatorConfig(width=4, label_dim=2),
    WGANDiscriminatorConfig(width=4, norm="none"),
    ProGANDiscriminatorConfig(growth=None, **SMALL_PROGAN),
    StyleGAN1DiscriminatorConfig(**SMALL_PROGAN),
]
IMAGES = [ImageSpec(32, 3, 5), ImageSpec(32, 1, 0)]


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("config", GENERATORS)
def test_a_generator_makes_its_images(config, image: ImageSpec) -> None:
    generator = config.build(image)
    z, label = torch.randn(4, generator.z_dim), torch.tensor([0, 1, 2, 3])
    generator.calibrate(torch.randn(64, generator.z_dim), torch.arange(64) % 5)
    generator.eval()
    images = generator(z, label)
    assert images.shape == (4, image.channels, 32, 32)
    assert images.dtype == torch.float32
    assert images.isfinite().all()
    torch.testing.assert_close(generator(z[1:3], label[1:3]), images[1:3], rtol=1e-3, atol=1e-4)
    drawn = generator(z, label, draws=Draws(0, torch.arange(4), "g"))
    assert torch.equal(drawn, generator(z, label, draws=Draws(0, torch.arange(4), "g")))
    near = (generator(z, label, truncation=0.0) - generator(z.roll(1, 0), label, truncation=0.0)).abs().max()
    assert near < 1e-4, "without any variety left, the latent does not matter"
    if image.classes:
        assert (generator(z, label) - generator(z, label.roll(1))).abs().max() > 1e-4


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("config", DISCRIMINATORS)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_discriminator_judges_and_has_second_derivatives(config, image: ImageSpec, precision: torch.dtype) -> None:
    network = config.build(image)
    real = torch.randn(4, image.channels, 32, 32, requires_grad=True)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        logits = network(real, torch.tensor([0, 1, 2, 3]))
        assert logits.shape == (4,)
        assert logits.dtype == torch.float32
        (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        penalty = gradient.square().sum()
    (penalty + logits.sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_calibration_leaves_the_spectral_state_and_mode_alone() -> None:
    generator = GENERATORS[0].build(ImageSpec(32, 3, 5))
    before = {name: value.clone() for name, value in generator.named_buffers()}
    generator.calibrate(torch.randn(300, generator.z_dim), torch.arange(300) % 5)
    after = dict(generator.named_buffers())
    assert generator.training
    for name, value in before.items():
        assert torch.equal(value, after[name]) != ("stored" in name), name


@pytest.mark.parametrize(
    ("config", "image", "words"),
    [
        (BigGANGeneratorConfig(), ImageSpec(48, 3), "resolutions 32, 64"),
        (BigGANGeneratorConfig(multiples=(4, 2)), ImageSpec(32, 3), "do not double 4 pixels to 32"),
        (BigGANGeneratorConfig(hierarchical=True), ImageSpec(32, 3), "shared_dim"),
        (StyleGAN2GeneratorConfig(), ImageSpec(48, 3), "power of two"),
    ],
)
def test_an_impossible_shape_is_refused(config, image: ImageSpec, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config.build(image)

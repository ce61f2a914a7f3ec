"""StyleGAN2-ADA as published in PyTorch by its authors: ours carries the same names, but for the mean of w."""

import torch
from torch import Tensor

from bigtrain.interop.peers.base import Blueprints, Settings, Weights, generator_and_discriminator
from bigtrain.models import ImageSpec
from bigtrain.models.stylegan2 import Architecture, StyleGAN2DiscriminatorConfig, StyleGAN2GeneratorConfig
from bigtrain.ops.upfirdn import fir_filter


def networks(settings: Settings, weights: Weights) -> Blueprints:
    """See Peer."""
    generator = StyleGAN2GeneratorConfig(
        z_dim=settings["z_dim"],
        w_dim=settings["w_dim"],
        mapping_layers=settings["map_layers"],
        channel_base=settings["channel_base"],
        channel_max=settings["channel_max"],
        architecture=settings["g_arch"],
        conv_clamp=settings.get("conv_clamp"),
        taps=_taps(weights["G.synthesis.b4.resample_filter"]),
    )
    resolution = settings["resolution"]
    image = ImageSpec(resolution, len(weights[f"G.synthesis.b{resolution}.torgb.bias"]), settings["c_dim"])
    discriminator_blueprint = (
        discriminator(settings, weights, settings["d_arch"]) if "D.b4.conv.weight" in weights else None
    )
    return generator_and_discriminator(generator, discriminator_blueprint, image, rename)


def discriminator(settings: Settings, weights: Weights, architecture: Architecture) -> StyleGAN2DiscriminatorConfig:
    """Tell what to build for D, which StyleGAN3 has in common."""
    channels, with_statistics = weights["D.b4.conv.weight"].shape[:2]
    return StyleGAN2DiscriminatorConfig(
        channel_base=settings["channel_base"],
        channel_max=settings["channel_max"],
        architecture=architecture,
        mapping_layers=sum(name.startswith("D.mapping.fc") and name.endswith("weight") for name in weights),
        mbstd_group=settings["mbstd_group"],
        mbstd_channels=with_statistics - channels,
        conv_clamp=settings.get("conv_clamp"),
        taps=_taps(weights["D.b8.resample_filter"]),
    )


def rename(part: str, name: str) -> str | None:
    """Return our name of the reference's `name`, see `Rename`."""
    if name.endswith("resample_filter"):
        return None
    return "w_avg" if name == "mapping.w_avg" else name


def _taps(resample_filter: Tensor) -> tuple[float, ...]:
    usual = (1.0, 3.0, 3.0, 1.0)
    if resample_filter.shape == (4, 4) and torch.allclose(resample_filter, fir_filter(usual)):
        return usual
    return tuple(resample_filter.sum(0).tolist())

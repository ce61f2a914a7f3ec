"""BigGAN and BigGAN-deep as published in PyTorch by their authors: ours carry the same names."""

import re

from bigtrain.interop.peers.base import Blueprints, Settings, Weights, generator_and_discriminator
from bigtrain.models import ImageSpec
from bigtrain.models.biggan import BigGANDiscriminatorConfig, BigGANGeneratorConfig
from bigtrain.models.biggan_deep import BigGANDeepDiscriminatorConfig, BigGANDeepGeneratorConfig


def networks(settings: Settings, weights: Weights) -> Blueprints:
    """See Peer."""
    attention = tuple(int(size) for size in settings["attn"].split("_") if size != "0")
    channels = weights["G.output_layer.2.weight"].shape[0]
    image = ImageSpec(settings["resolution"], channels, settings["n_classes"])
    # A shared embedding without a length of its own is as long as z.
    shared_dim = settings["shared_dim"] or settings["dim_z"]
    shared_dim = shared_dim if settings["g_shared"] else 0
    size = {"width": settings["ch"]}
    # At 32x32 the reference counts every block of D as one of 16x16: its weights tell where attention is.
    after = _attention_after(weights)
    if depth := settings.get("deep", 0):
        if not (settings["hier"] and shared_dim):
            raise ValueError("deep: BigGAN-deep has hier and g_shared, as in the paper's figure 16")
        return generator_and_discriminator(
            BigGANDeepGeneratorConfig(
                z_dim=settings["dim_z"], depth=depth, attention=attention, shared_dim=shared_dim, **size
            ),
            BigGANDeepDiscriminatorConfig(depth=depth, attention_after=after, **size),
            image,
            rename,
        )
    return generator_and_discriminator(
        BigGANGeneratorConfig(
            z_dim=settings["dim_z"],
            attention=attention,
            shared_dim=shared_dim,
            hierarchical=settings["hier"],
            **size,
        ),
        BigGANDiscriminatorConfig(attention_after=after, **size),
        image,
        rename,
    )


def rename(part: str, name: str) -> str | None:
    """Return our name of the reference's `name`, see `Rename`."""
    return name


def _attention_after(weights: Weights) -> tuple[int, ...]:
    found = (re.fullmatch(r"D\.blocks\.(\d+)\.\d+\.gamma", name) for name in weights)
    return tuple(sorted(int(match[1]) for match in found if match))

"""BigGAN as published in PyTorch by its authors: ours carries the same names."""

from bigtrain.interop.peers.base import Networks, Settings, Weights
from bigtrain.models import ImageSpec
from bigtrain.models.biggan import BigGANDiscriminatorConfig, BigGANGeneratorConfig


def networks(settings: Settings, weights: Weights) -> Networks:
    """See Peer."""
    attention = tuple(int(size) for size in settings["attn"].split("_") if size != "0")
    # A shared embedding without a length of its own is as long as z.
    shared_dim = settings["shared_dim"] or settings["dim_z"]
    generator = BigGANGeneratorConfig(
        z_dim=settings["dim_z"],
        width=settings["ch"],
        attention=attention,
        shared_dim=shared_dim if settings["g_shared"] else 0,
        hierarchical=settings["hier"],
    )
    discriminator = BigGANDiscriminatorConfig(width=settings["ch"], attention=attention)
    channels = weights["G.output_layer.2.weight"].shape[0]
    return Networks(generator, discriminator, ImageSpec(settings["resolution"], channels, settings["n_classes"]))


def rename(part: str, name: str) -> str | None:
    """See Peer."""
    return name

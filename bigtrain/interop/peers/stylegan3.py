"""StyleGAN3 as published in PyTorch by its authors, T and R: ours carries the same names, but for the mean of w."""

import re

from bigtrain.interop.peers import stylegan2
from bigtrain.interop.peers.base import Blueprints, Settings, Weights, generator_and_discriminator
from bigtrain.models import ImageSpec
from bigtrain.models.stylegan3 import StyleGAN3GeneratorConfig

_LAYER = re.compile(r"G\.synthesis\.L(\d+)_\d+_(\d+)\.bias")

_PUBLISHED_AS = {
    "num_layers": "layers",
    "num_critical": "critical_layers",
    "margin_size": "margin",
    "first_cutoff": "first_cutoff",
    "first_stopband": "first_stopband",
    "last_stopband_rel": "last_stopband",
    "lrelu_upsampling": "upsampling",
    "filter_size": "filter_taps",
    "conv_clamp": "conv_clamp",
    "magnitude_ema_beta": "magnitude_decay",
    "output_scale": "output_scale",
}
"""The reference's name of an option that a folder may leave at its default, and ours."""


def networks(settings: Settings, weights: Weights) -> Blueprints:
    """See Peer."""
    options = {ours: settings[theirs] for theirs, ours in _PUBLISHED_AS.items() if theirs in settings}
    generator = StyleGAN3GeneratorConfig(
        variant=settings["variant"],
        z_dim=settings["z_dim"],
        w_dim=settings["w_dim"],
        mapping_layers=settings["map_layers"],
        channel_base=settings["channel_base"],
        channel_max=settings["channel_max"],
        **options,
    )
    discriminator = stylegan2.discriminator(settings, weights, "resnet") if "D.b4.conv.weight" in weights else None
    # The last layer carries its channels in its name too: L14_256_3.
    _, channels = max((int(match[1]), int(match[2])) for match in map(_LAYER.fullmatch, weights) if match)
    return generator_and_discriminator(
        generator, discriminator, ImageSpec(settings["resolution"], channels, settings["c_dim"]), rename
    )


def rename(part: str, name: str) -> str | None:
    """Return our name of the reference's `name`, see `Rename`."""
    if name.endswith(("up_filter", "down_filter")):
        return None
    return stylegan2.rename(part, name)

"""jik876's HiFi-GAN: the generator, and each half of the discriminator, `MPD` and `MSD`."""

from functools import partial
from typing import Literal

from bigtrain.interop.peers.base import Blueprint, Blueprints, Settings, Weights
from bigtrain.models import ArraySpec
from bigtrain.models.hifigan import HiFiGANConfig, HiFiGANDiscriminatorConfig
from bigtrain.models.network_spec import NetworkSpec

_BLOCKS: dict[str, Literal[1, 2]] = {"1": 1, "2": 2}
_SPECTRAL = {"weight_orig": "weight", "weight_u": "u", "weight_v": "v"}


def networks(settings: Settings, weights: Weights) -> Blueprints:
    """See Peer."""
    if settings["resblock"] not in _BLOCKS:
        raise ValueError(f"resblock: {settings['resblock']!r} is neither '1' nor '2'")
    generator = HiFiGANConfig(
        width=settings["upsample_initial_channel"],
        rates=tuple(settings["upsample_rates"]),
        kernels=tuple(settings["upsample_kernel_sizes"]),
        block=_BLOCKS[settings["resblock"]],
        block_kernels=tuple(settings["resblock_kernel_sizes"]),
        dilations=tuple(map(tuple, settings["resblock_dilation_sizes"])),
    )
    mel = ArraySpec((settings["num_mels"], settings["frames"]))
    sound = ArraySpec((1, settings["frames"] * settings["hop_size"]))
    blueprints = {"G": Blueprint(NetworkSpec("generator", "translator", generator, (mel, sound)), lambda name: name)}
    if "MPD.discriminators.0.convs.0.bias" in weights:
        periods = HiFiGANDiscriminatorConfig(period_widths=_widths(weights, "MPD.discriminators.0"), scales=0)
        blueprints["MPD"] = _discriminator(periods, sound, "periods")
    if "MSD.discriminators.0.convs.0.bias" in weights:
        scales = HiFiGANDiscriminatorConfig(scale_widths=_widths(weights, "MSD.discriminators.0"), periods=())
        blueprints["MSD"] = _discriminator(scales, sound, "scales")
    return blueprints


def _discriminator(config: HiFiGANDiscriminatorConfig, sound: ArraySpec, half: str) -> Blueprint:
    spec = NetworkSpec("discriminator", "patch_discriminator", config, (sound, None))
    return Blueprint(spec, partial(_rename, half))


def _widths(weights: Weights, part: str) -> tuple[int, ...]:
    """Return the channels of a part's layers."""
    layers = sum(name.startswith(f"{part}.convs.") and name.endswith(".bias") for name in weights)
    return tuple(len(weights[f"{part}.convs.{layer}.bias"]) for layer in range(layers))


def _rename(half: str, name: str) -> str:
    """Return our name of the reference's `name`, see `Rename`; the first scale is the one with spectral norms."""
    layer, _, end = name.rpartition(".")
    if half == "scales" and layer.startswith("discriminators.0."):
        end = _SPECTRAL.get(end, end)
    return f"{layer.replace('discriminators', half, 1)}.{end}"

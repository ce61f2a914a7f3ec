"""BasicSR's super-resolution networks; ours carry the same names, but for those of the normalisations."""

from typing import Any

from bigtrain.interop.peers.base import Blueprint, Blueprints, Settings, Weights
from bigtrain.models import ImageSpec
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.models.superresolution import (
    RRDBConfig,
    SRResNetConfig,
    UNetDiscriminatorConfig,
    VGGDiscriminatorConfig,
)

_STATISTICS = {"weight": "gain", "bias": "bias", "running_mean": "stored_mean", "running_var": "stored_var"}
_SPECTRAL = {"weight_orig": "weight", "weight_u": "u", "weight_v": "v"}


def networks(settings: Settings, weights: Weights) -> Blueprints:
    """See Peer."""
    size: dict[str, Any] = {"scale": settings["scale"], "width": settings["feat"], "blocks": settings["blocks"]}
    generator: RRDBConfig | SRResNetConfig
    match settings["g"]:
        case "rrdb":
            generator = RRDBConfig(growth=settings["grow"], **size)
        case "srresnet":
            generator = SRResNetConfig(**size)
        case other:
            raise ValueError(f"g: {other!r} is neither rrdb nor srresnet")
    large = ImageSpec(settings["resolution"], weights["G.conv_last.weight"].shape[0])
    small = ImageSpec(large.resolution // generator.scale, large.channels)
    found = {"G": Blueprint(NetworkSpec("generator", "translator", generator, (small, large)), rename)}
    if "d" in settings:  # a file of weights may hold the generator alone
        discriminators = {"unet_sn": UNetDiscriminatorConfig, "vgg": VGGDiscriminatorConfig}
        discriminator = discriminators[settings["d"]](width=settings["d_feat"])
        spec = NetworkSpec("discriminator", "patch_discriminator", discriminator, (large, None))
        found["D"] = Blueprint(spec, rename)
    return found


def rename(name: str) -> str | None:
    """Return our name of the reference's `name`, see `Rename`."""
    layer, _, end = name.rpartition(".")
    if end == "num_batches_tracked":
        return None
    if layer.startswith("bn"):
        return f"{layer}.{_STATISTICS[end]}"
    return f"{layer}.{_SPECTRAL.get(end, end)}"

"""R3GAN as published by its authors: one list of layers a stage, where ours keeps blocks and resamplers apart."""

import re
from typing import Any

from bigtrain.interop.peers.base import Blueprints, Settings, Weights, generator_and_discriminator
from bigtrain.models import ImageSpec
from bigtrain.models.r3gan import R3GANDiscriminatorConfig, R3GANGeneratorConfig

_ENDS = {
    "EmbeddingLayer.weight": "embedding.weight",
    "AggregationLayer.Layer.weight": "to_image.weight",
    "ExtractionLayer.Layer.weight": "from_image.weight",
}
_INNER = {
    "LinearLayer1.Layer.weight": "conv1.weight",
    "NonLinearity1.Bias": "bias1.bias",
    "LinearLayer2.Layer.weight": "conv2.weight",
    "NonLinearity2.Bias": "bias2.bias",
    "LinearLayer3.Layer.weight": "conv3.weight",
}


def networks(settings: Settings, weights: Weights) -> Blueprints:
    """See Peer."""
    shape: dict[str, Any] = {
        "widths": tuple(settings["widths"]),
        "groups": tuple(settings["cardinality"]),
        "blocks": tuple(settings["blocks"]),
    }
    classes, label_dim, label_dim_d = settings["c_dim"], settings.get("c_embed"), settings.get("c_embed_d")
    channels = weights["G.AggregationLayer.Layer.weight"].shape[0]
    return generator_and_discriminator(
        R3GANGeneratorConfig(z_dim=settings["z_dim"], label_dim=label_dim if classes else None, **shape),
        R3GANDiscriminatorConfig(label_dim=label_dim_d if classes else None, **shape),
        ImageSpec(settings["resolution"], channels, classes),
        rename,
    )


def rename(part: str, name: str) -> str | None:
    """Return our name of the reference's `name`, see `Rename`.

    In G a stage begins with what leads to it (the basis, or an up-sampler), in D it ends with what leads on.
    """
    if name in _ENDS:
        return _ENDS[name]
    match = re.fullmatch(r"MainLayers\.(\d+)\.Layers\.(\d+)\.(.+)", name)
    if not match:
        raise KeyError(name)
    stage, layer, inner = int(match[1]), int(match[2]), match[3]
    if inner.startswith("Resampler"):
        return None
    if inner in _INNER:
        return f"blocks.{stage}.{layer - (part == 'G')}.{_INNER[inner]}"
    if inner == "LinearLayer.Layer.weight":
        return f"upsamplers.{stage - 1}.conv.weight" if part == "G" else f"downsamplers.{stage}.conv.weight"
    return {
        "G": {"Basis": "basis.basis", "LinearLayer.weight": "basis.linear.weight"},
        "D": {"Basis.weight": "basis.basis", "LinearLayer.weight": "linear.weight"},
    }[part][inner]

"""pix2pix and CycleGAN as published in PyTorch by their authors: layers are numbered there, and ours have names."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from bigtrain.interop.peers.base import Blueprint, Blueprints, Rename, Settings, Weights
from bigtrain.models import BaseTranslatorConfig, ImageSpec
from bigtrain.models.layers.normalisation import ImageNorm
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.models.patch import PatchDiscriminatorConfig, PixelDiscriminatorConfig
from bigtrain.models.pix2pix_unet import Pix2PixUNetConfig
from bigtrain.models.resnet_translator import ResNetTranslatorConfig

_BATCH_NORM = {"weight": "gain", "bias": "bias", "running_mean": "stored_mean", "running_var": "stored_var"}
_STATISTICS = {"running_mean", "running_var"}


def networks(settings: Settings, weights: Weights) -> Blueprints:
    """See Peer."""
    A, B = (ImageSpec(settings["resolution"], settings[channels]) for channels in ("input_nc", "output_nc"))
    makers: dict[str, Callable[[], Blueprint]]
    match settings["model"]:
        case "pix2pix":
            # A translator that CycleGAN trained has a discriminator without a condition.
            first = weights.get("D.model.0.weight")
            condition = None if first is not None and first.shape[1] == B.channels else A
            makers = {
                "G": lambda: _generator(settings, A, B),
                "D": lambda: _patch(settings, B, condition),
                "D_pixel": lambda: _pixel(settings, B, condition),
            }
        case "cyclegan":
            makers = {
                "G_A": lambda: _generator(settings, A, B),
                "G_B": lambda: _generator(settings, B, A),
                "D_A": lambda: _patch(settings, B, None),
                "D_B": lambda: _patch(settings, A, None),
            }
        case other:
            raise ValueError(f"model: {other!r} is neither pix2pix nor cyclegan")
    parts = {name.partition(".")[0] for name in weights}
    return {part: make() for part, make in makers.items() if part in parts}


def _generator(settings: Settings, source: ImageSpec, target: ImageSpec) -> Blueprint:
    size: dict[str, Any] = {"width": settings["ngf"], "norm": settings["norm"]}
    dropout = 0.5 if settings["use_dropout"] else 0.0
    match settings["netG"]:
        case "unet":
            unet = Pix2PixUNetConfig(downs=settings["num_downs"], dropout=dropout, **size)
            return Blueprint(_translator(unet, source, target), partial(_unet_name, unet.norm))
        case "resnet":
            resnet = ResNetTranslatorConfig(blocks=settings["n_blocks"], dropout=dropout, **size)
            rename = _resnet_name(settings["n_blocks"], resnet.norm, dropout=dropout > 0)
            return Blueprint(_translator(resnet, source, target), rename)
        case other:
            raise ValueError(f"netG: {other!r} is neither unet nor resnet")


def _translator(config: BaseTranslatorConfig, source: ImageSpec, target: ImageSpec) -> NetworkSpec:
    return NetworkSpec("generator", "translator", config, (source, target))


def _patch(settings: Settings, image: ImageSpec, condition: ImageSpec | None) -> Blueprint:
    config = PatchDiscriminatorConfig(width=settings["ndf"], layers=settings["n_layers_D"], norm=settings["norm"])
    # A convolution, a normalisation and an activation, of which the first block has no normalisation.
    layers = {"model.0": "blocks.0.0", f"model.{3 * config.layers + 2}": "to_logits"}
    for block in range(1, config.layers + 1):
        layers[f"model.{3 * block - 1}"] = f"blocks.{block}.0"
        layers[f"model.{3 * block}"] = f"blocks.{block}.1"
    spec = NetworkSpec("discriminator", "patch_discriminator", config, (image, condition))
    return Blueprint(spec, partial(_layer_name, layers, config.norm))


def _pixel(settings: Settings, image: ImageSpec, condition: ImageSpec | None) -> Blueprint:
    config = PixelDiscriminatorConfig(width=settings["ndf"], norm=settings["norm"])
    layers = {"net.0": "blocks.0.0", "net.2": "blocks.1.0", "net.3": "blocks.1.1", "net.5": "to_logits"}
    spec = NetworkSpec("discriminator", "patch_discriminator", config, (image, condition))
    return Blueprint(spec, partial(_layer_name, layers, config.norm))


def _unet_name(norm: ImageNorm, name: str) -> str | None:
    """See `Rename`. Each block holds the next one inside: `model.model.1.model.3.model.5.weight`."""
    found = re.fullmatch(r"model((?:\.model\.\d+)+)\.(\w+)", name)
    if found is None:
        raise KeyError(name)
    *outside, place = map(int, re.findall(r"\d+", found[1]))
    level = len(outside)
    if level == 0:
        layers = {0: "encoder.0.conv", 3: "to_image"}
    else:
        # The innermost block holds no other, so that its numbers 3 and 4 are what 5 and 6 are elsewhere.
        encoder, decoder = f"encoder.{level}", f"decoder.{level - 1}"
        layers = {1: f"{encoder}.conv", 2: f"{encoder}.norm"}
        layers |= {3: f"{decoder}.conv", 4: f"{decoder}.norm", 5: f"{decoder}.conv", 6: f"{decoder}.norm"}
    return _parameter_name(layers[place], found[2], norm)


def _resnet_name(blocks: int, norm: ImageNorm, *, dropout: bool) -> Rename:
    """Return the `Rename` of a network with so many residual blocks, all of whose convolutions reflect."""
    layers: dict[str, str] = {}
    for level in range(3):
        layers |= {f"model.{3 * level + 1}": f"encoder.{level}.0", f"model.{3 * level + 2}": f"encoder.{level}.1"}
    second = 6 if dropout else 5  # after padding, convolution, normalisation, ReLU, perhaps dropout, padding
    for block in range(blocks):
        inner, ours = f"model.{10 + block}.conv_block", f"blocks.{block}"
        layers |= {f"{inner}.1": f"{ours}.conv1", f"{inner}.2": f"{ours}.norm1"}
        layers |= {f"{inner}.{second}": f"{ours}.conv2", f"{inner}.{second + 1}": f"{ours}.norm2"}
    up = 10 + blocks
    for level in range(2):
        layers |= {f"model.{up + 3 * level}": f"decoder.{level}.0", f"model.{up + 3 * level + 1}": f"decoder.{level}.1"}
    layers[f"model.{up + 7}"] = "to_image"
    return partial(_layer_name, layers, norm)


def _layer_name(layers: dict[str, str], norm: ImageNorm, name: str) -> str | None:
    layer, _, end = name.rpartition(".")
    return _parameter_name(layers[layer], end, norm)


def _parameter_name(layer: str, end: str, norm: ImageNorm) -> str | None:
    """Return the name of a layer's parameter or buffer, which the reference calls `end`."""
    is_norm = layer.rpartition(".")[2] in ("norm", "norm1", "norm2", "1")
    if end == "num_batches_tracked" or (is_norm and end in _STATISTICS and norm == "instance"):
        return None  # PyTorch before 0.4 wrote running statistics of instance normalisation, which no one reads
    return f"{layer}.{_BATCH_NORM[end] if is_norm else end}"

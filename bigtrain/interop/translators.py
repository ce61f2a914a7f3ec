"""Checkpoints of pix2pix's and CycleGAN's reference implementation: a translator, and perhaps a discriminator.

Each file holds the weights of one network. A CycleGAN's two directions are two files, and become two snapshots.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bigtrain.interop.foreign import Foreign, numbered, shape_of

_UNET, _RESNET = "G.model.model.0.weight", "G.model.1.weight"
_NORM = {
    _UNET: "G.model.model.1.model.2.weight",
    _RESNET: "G.model.2.weight",
}
"""By a network's first convolution: the first gain of a batch normalisation, if it has any."""


def is_translator(weights: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a U-Net or a ResNet generator."""
    return _UNET in weights or (_RESNET in weights and weights[_RESNET].ndim == 4)


def from_translator(weights: Mapping[str, Tensor]) -> Foreign:
    """Read the settings off names and shapes.

    Args:
        weights: of the translator after `G.`, of the discriminator, if there is one, after `D.`.

    Raises:
        InteropError: a name is missing.
    """
    first = _UNET if _UNET in weights else _RESNET
    width, channels = shape_of(weights, first)[:2]
    biased = first.replace("weight", "bias") in weights
    settings: dict[str, Any] = {
        "model": "pix2pix",
        "input_nc": channels,
        "ngf": width,
        "norm": "batch" if _NORM[first] in weights else "instance" if biased else "none",
        "use_dropout": False,
    }
    untold: frozenset[str] = frozenset()
    if first == _UNET:
        downs = max(name.count(".model.") for name in weights if name.startswith("G."))
        settings |= {
            "netG": "unet",
            "num_downs": downs,
            "output_nc": shape_of(weights, "G.model.model.3.weight")[1],
            "resolution": 2**downs,
        }
    else:
        blocks = numbered(r"G\.model\.(\d+)\.conv_block\.1\.weight", weights)
        settings |= {
            "netG": "resnet",
            "n_blocks": len(blocks),
            "output_nc": shape_of(weights, f"G.model.{17 + len(blocks)}.weight")[0],
            "use_dropout": f"G.model.{min(blocks, default=0)}.conv_block.6.weight" in weights,
        }
        untold = frozenset({"resolution"})
    if "D.model.0.weight" in weights:
        convolutions = [int(number) for number in numbered(r"D\.model\.(\d+)\.weight", weights)]
        settings |= {"ndf": shape_of(weights, "D.model.0.weight")[0], "n_layers_D": (max(convolutions) - 2) // 3}
    return Foreign("pix2pix", settings, weights, untold)

"""Checkpoints of BasicSR's networks of super-resolution: RRDBNet of ESRGAN and Real-ESRGAN, and SRGAN's MSRResNet."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bigtrain.interop.errors import InteropError
from bigtrain.interop.foreign import Foreign, numbered, shape_of

_FORMER = {"RRDB_trunk": "body", "trunk_conv": "conv_body", "upconv": "conv_up", "HRconv": "conv_hr", "RDB": "rdb"}
"""What ESRGAN's own first files call the layers of RRDBNet."""
_RESOLUTION = 256
"""Of the outputs, where no discriminator tells one: the networks enlarge images of any size."""


def is_upscaler(weights: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of RRDBNet or MSRResNet."""
    return {"G.conv_first.weight", "G.conv_last.weight"} <= weights.keys()


def from_upscaler(weights: Mapping[str, Tensor]) -> Foreign:
    """Read the settings off names and shapes.

    Args:
        weights: of the upscaler after `G.`, of the discriminator, if there is one, after `D.`.

    Raises:
        InteropError: a name is missing, or the network is another one with such layers.
    """
    if any(name.startswith("G.RRDB_trunk.") for name in weights):
        weights = {_present(name): value for name, value in weights.items()}
    width, channels_in = shape_of(weights, "G.conv_first.weight")[:2]
    channels = shape_of(weights, "G.conv_last.weight")[0]
    settings: dict[str, Any] = {"feat": width, "resolution": _RESOLUTION}
    if "G.body.0.rdb1.conv1.weight" in weights:
        folding = math.isqrt(channels_in // channels)
        doublings = len(numbered(r"G\.conv_up(\d+)\.weight", weights))
        settings |= {
            "g": "rrdb",
            "scale": 2**doublings // folding,
            "blocks": len(numbered(r"G\.body\.(\d+)\.rdb1\.conv1\.weight", weights)),
            "grow": shape_of(weights, "G.body.0.rdb1.conv1.weight")[0],
        }
    elif "G.upconv1.weight" in weights:
        ups = numbered(r"G\.upconv(\d+)\.weight", weights)
        settings |= {
            "g": "srresnet",
            "scale": math.isqrt(shape_of(weights, "G.upconv1.weight")[0] // width) ** len(ups),
            "blocks": len(numbered(r"G\.body\.(\d+)\.conv1\.weight", weights)),
        }
    else:
        raise InteropError("its layers are neither those of RRDBNet nor those of MSRResNet")
    if "D.conv0.weight" in weights:
        settings |= {"d": "unet_sn", "d_feat": shape_of(weights, "D.conv0.weight")[0]}
    elif "D.conv0_0.weight" in weights:
        halvings = len(numbered(r"D\.conv(\d+)_1\.weight", weights))
        last = shape_of(weights, f"D.conv{halvings - 1}_1.weight")[0]
        side = math.isqrt(shape_of(weights, "D.linear1.weight")[1] // last)
        settings |= {
            "d": "vgg",
            "d_feat": shape_of(weights, "D.conv0_0.weight")[0],
            "resolution": side * 2**halvings,
        }
    return Foreign("superres", settings, weights)


def _present(name: str) -> str:
    return re.sub("|".join(_FORMER), lambda found: _FORMER[found[0]], name)

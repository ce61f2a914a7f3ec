"""How each number of a golden folder is computed, one file a family; a new one is a new file and one line below."""

from collections.abc import Mapping

import torch

from bigtrain.interop.golden import Golden
from bigtrain.interop.quantities.base import Quantities
from bigtrain.interop.quantities.cyclegan import CycleGANQuantities
from bigtrain.interop.quantities.hifigan import HiFiGANQuantities
from bigtrain.interop.quantities.pix2pix import Pix2PixQuantities
from bigtrain.interop.quantities.superresolution import SuperResolutionQuantities
from bigtrain.interop.quantities.synthesis import SynthesisQuantities

_FAMILIES: Mapping[str, type[Quantities]] = {
    "cyclegan": CycleGANQuantities,
    "hifigan": HiFiGANQuantities,
    "pix2pix": Pix2PixQuantities,
    "superres": SuperResolutionQuantities,
}
"""By the setting `model`, or the peer where there is none."""


def quantities_of(golden: Golden, device: torch.device) -> Quantities:
    """Return what computes the numbers of a folder, its networks moved to the device."""
    family = golden.settings.get("model", golden.document["peer"])
    return _FAMILIES.get(family, SynthesisQuantities)(golden, device)


__all__ = ["Quantities", "quantities_of"]

"""Others' weights, once read: whose they are, what they say of the networks, and the tensors."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bigtrain.interop.errors import InteropError


@dataclass(frozen=True)
class Foreign:
    """Networks of a peer.

    Attributes:
        peer: a key of PEERS, whose names the settings and weights have.
        settings: in the reference's own words; what the file does not tell is missing.
        weights: those of the generator after `G.`, of the discriminator, if it is there, after `D.`.
        untold: settings that the file should tell, and does not.
        calibrated: False where the statistics that sampling needs are not among them.
        notes: what was made up, a line each.
    """

    peer: str
    settings: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    untold: frozenset[str] = frozenset()
    calibrated: bool = True
    notes: tuple[str, ...] = ()


def numbered(pattern: str, names: Iterable[str]) -> list[int]:
    """Return the numbers that names have in the place of the pattern's group, sorted, each once."""
    return sorted({int(match[1]) for name in names if (match := re.fullmatch(pattern, name))})


def shape_of(weights: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Return the shape of a weight.

    Raises:
        InteropError: it is missing.
    """
    if name not in weights:
        raise InteropError(f"{name} is missing: the file has not the weights that its other names suggest")
    return tuple(weights[name].shape)


def widths_rule(widths: Mapping[int, int]) -> dict[str, int]:
    """Return the two numbers that StyleGAN's widths follow: min(channel_base / resolution, channel_max).

    Args:
        widths: channels by resolution.

    Raises:
        InteropError: they follow no such rule.
    """
    top = max(widths.values())
    below = [resolution * width for resolution, width in widths.items() if width < top]
    rule = {"channel_base": max(below) if below else top * max(widths), "channel_max": top}
    if any(min(rule["channel_base"] // resolution, top) != width for resolution, width in widths.items()):
        raise InteropError(f"widths {dict(widths)} do not decrease as 1 / resolution: not one of StyleGAN2's networks")
    return rule

"""What a peer is: a reference implementation whose networks ours are equal to."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from bigtrain.core.config import Config
from bigtrain.models import ImageSpec

Settings = Mapping[str, Any]
"""A network's settings in the reference's own words."""

Weights = Mapping[str, Tensor]
"""Parameters and buffers by the reference's names: `G.` and the name in the generator, `D.` in the discriminator."""


class Networks(NamedTuple):
    """What to build for a peer's networks; None for one that it does not have."""

    generator: Config | None
    discriminator: Config | None
    image: ImageSpec


class Peer(Protocol):
    """A module of this package."""

    def networks(self, settings: Settings, weights: Weights) -> Networks:
        """Tell what to build.

        Args:
            settings: in the reference's own words; a key that is never looked up is reported as not understood.
            weights: whose shapes tell what the settings leave open.
        """

    def rename(self, part: str, name: str) -> str | None:
        """Return our name of the reference's parameter or buffer `name`.

        Args:
            part: `G` or `D`.
            name: without the part.

        Returns:
            None for what is a constant of ours, and no state.
        """

"""What a peer is: a reference implementation whose networks ours are equal to."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from bigtrain.models import DiscriminatorConfig, GeneratorConfig, ImageSpec
from bigtrain.models.network_spec import NetworkSpec

Settings = Mapping[str, Any]
"""A network's settings in the reference's own words."""

Weights = Mapping[str, Tensor]
"""Parameters and buffers by the reference's names, each after its network's part: `G.`, `D.`, `G_A.`, ..."""


Rename = Callable[[str], str | None]
"""From the reference's name of a parameter or buffer, without the part, to ours; None for what is a constant of ours
and no state. It raises KeyError for names that the reference does not have."""


class Blueprint(NamedTuple):
    """What a network is built from, and how the reference's names of its weights lead to its own."""

    spec: NetworkSpec
    rename: Rename


Blueprints = Mapping[str, Blueprint]
"""A peer's networks by their parts: `G` and `D`, or `G_A`, `G_B`, ..."""


def generator_and_discriminator(
    generator: GeneratorConfig,
    discriminator: DiscriminatorConfig | None,
    image: ImageSpec,
    rename: Callable[[str, str], str | None],
) -> Blueprints:
    """Return the blueprints of `G`, which makes `image`, and of `D`, if there is one, which judges it.

    Args:
        generator: config of `G`.
        discriminator: config of `D`, or None.
        image: what both are built for.
        rename: a `Rename` that takes the part, `G` or `D`, first.
    """
    blueprints = {"G": Blueprint(NetworkSpec("generator", "generator", generator, (image,)), partial(rename, "G"))}
    if discriminator is not None:
        D = NetworkSpec("discriminator", "discriminator", discriminator, (image,))
        blueprints["D"] = Blueprint(D, partial(rename, "D"))
    return blueprints


class Peer(Protocol):
    """A module of this package."""

    def networks(self, settings: Settings, weights: Weights) -> Blueprints:
        """Tell what to build.

        Args:
            settings: in the reference's own words; a key that is never looked up is reported as not understood.
            weights: whose shapes tell what the settings leave open.
        """

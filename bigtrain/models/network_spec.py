"""Everything that a network is built from: enough to build it again, from a config or from a snapshot's description."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn

from bigtrain.core.registry import ConfigUnion
from bigtrain.models import (
    DISCRIMINATORS,
    GENERATORS,
    PATCH_DISCRIMINATORS,
    TRANSLATORS,
    ImageSpec,
    NetworkConfig,
)
from bigtrain.models.initialise import build_network

Role = Literal["generator", "discriminator", "translator", "patch_discriminator"]
"""What a network is to a task, and so which family of configs it has."""

_CONFIGS: Mapping[str, ConfigUnion[Any]] = {
    "generator": GENERATORS,
    "discriminator": DISCRIMINATORS,
    "translator": TRANSLATORS,
    "patch_discriminator": PATCH_DISCRIMINATORS,
}


@dataclass(frozen=True)
class NetworkSpec:
    """What one network is built from.

    Attributes:
        key: of the run's config that says so; it begins error messages.
        role: see `Role`.
        config: the network's own config.
        images: the arguments of its `build`: what it makes, judges, or is given.
    """

    key: str
    role: Role
    config: NetworkConfig
    images: tuple[ImageSpec | None, ...]

    def build(self) -> nn.Module:
        """Build the network as the current device has it, for example without content on `meta`.

        Raises:
            ValueError: the config does not fit the images; the message begins with the key.
        """
        try:
            return self.config.build(*self.images)
        except ValueError as error:
            raise ValueError(f"{self.key}: {error}") from None

    def build_on(self, device: torch.device) -> nn.Module:
        """Build the network where it will live, with random weights and one copy of them in memory."""
        network: nn.Module = build_network(self.config, *self.images, device=device)
        return network

    def describe(self) -> dict[str, Any]:
        """Return JSON values that `read` turns back into an equal spec."""
        images = [None if image is None else asdict(image) for image in self.images]
        return {"key": self.key, "role": self.role, "config": self.config.model_dump(mode="json"), "images": images}

    @classmethod
    def read(cls, description: Mapping[str, Any]) -> "NetworkSpec":
        """Read a description.

        Raises:
            KeyError, TypeError, ValueError: it is damaged, or of a family that is not known here.
        """
        config = _CONFIGS[description["role"]].adapter.validate_json(json.dumps(description["config"]))
        images = tuple(None if image is None else ImageSpec(**image) for image in description["images"])
        return cls(description["key"], description["role"], config, images)

"""Everything that a network is built from: enough to build it again, from a config or from a snapshot's description."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bigtrain.core.registry import ConfigUnion
from bigtrain.models import (
    DISCRIMINATORS,
    GENERATORS,
    PATCH_DISCRIMINATORS,
    STYLISERS,
    TRANSLATORS,
    ArraySpec,
    DataSpec,
    ImageSpec,
    NetworkConfig,
)
from bigtrain.models.initialise import build_network
from data_pipelines.plugins import Registry


def _role(name: str, found: Any) -> tuple[str, ConfigUnion[Any]] | None:
    return (name, found) if isinstance(found, ConfigUnion) else None


ROLES: Registry[ConfigUnion[Any]] = Registry("bigtrain.roles", "a ConfigUnion of networks", _role)
"""What a network is to a task: the family of configs that it has, by the role's name."""

ROLES.add(
    ("generator", GENERATORS),
    ("discriminator", DISCRIMINATORS),
    ("translator", TRANSLATORS),
    ("styliser", STYLISERS),
    ("patch_discriminator", PATCH_DISCRIMINATORS),
)


@dataclass(frozen=True)
class NetworkSpec:
    """What one network is built from.

    Attributes:
        key: of the run's config that says so; it begins error messages.
        role: one of `ROLES`.
        config: the network's own config.
        data: the arguments of its `build`: what it makes, judges, or is given.
    """

    key: str
    role: str
    config: NetworkConfig
    data: tuple[DataSpec | None, ...]

    def build(self) -> nn.Module:
        """Build the network as the current device has it, for example without content on `meta`.

        Raises:
            ValueError: the config does not fit the data; the message begins with the key.
        """
        works_on = self.config.works_on
        for data in self.data:
            if data is not None and not isinstance(data, works_on):
                kind, size = getattr(self.config, "kind", type(self.config).__name__), list(data.shape)
                other = "images [C, H, W]" if works_on is ImageSpec else "samples of another shape than images"
                raise ValueError(f"{self.key}: '{kind}' works on {other}, but the field has the shape {size}")
        try:
            return self.config.build(*self.data)
        except ValueError as error:
            raise ValueError(f"{self.key}: {error}") from None

    def build_on(self, device: torch.device) -> nn.Module:
        """Build the network where it will live, with random weights and one copy of them in memory."""
        network: nn.Module = build_network(self.config, *self.data, device=device)
        return network

    def describe(self) -> dict[str, Any]:
        """Return JSON values that `read` turns back into an equal spec."""
        data = [None if one is None else one.describe() for one in self.data]
        return {"key": self.key, "role": self.role, "config": self.config.model_dump(mode="json"), "images": data}

    @classmethod
    def read(cls, description: Mapping[str, Any]) -> "NetworkSpec":
        """Read a description.

        Raises:
            KeyError, TypeError, ValueError: it is damaged, or of a family that is not known here.
        """
        config = ROLES[description["role"]].adapter.validate_json(json.dumps(description["config"]))
        data = tuple(map(_read_data, description["images"]))
        return cls(description["key"], description["role"], config, data)


def _read_data(description: Mapping[str, Any] | None) -> DataSpec | None:
    if description is None:
        return None
    if "size" in description:
        return ArraySpec(tuple(description["size"]), description["classes"])
    return ImageSpec(**description)

"""Transfer learning: a run that starts from the networks of a snapshot, perhaps with a part of D frozen."""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import NonNegativeInt, model_validator
from torch import Tensor, nn

from bigtrain.core.config import Config, ConfigError
from bigtrain.generate.snapshot import read_network
from bigtrain.models import Discriminator, ImageSpec

Part = Literal["generator", "discriminator"]


class InitFromConfig(Config):
    """Where the weights come from.

    Attributes:
        snapshot: a folder, of this project's own or made by `bigtrain import`.
        parts: which networks; the averaged generator starts from the snapshot's too.
        freeze_d: how many of D's stages, from the image on, keep their weights (FreezeD, Mo et al. 2020).
    """

    snapshot: str
    parts: tuple[Part, ...] = ("generator", "discriminator")
    freeze_d: NonNegativeInt = 0

    @model_validator(mode="after")
    def _frozen_parts_are_taken(self) -> "InitFromConfig":
        if self.freeze_d and "discriminator" not in self.parts:
            raise ValueError("freeze_d would freeze random weights: add discriminator to parts")
        return self

    def check(self, networks: Mapping[str, nn.Module], image: ImageSpec) -> None:
        """Compare the snapshot's networks with the run's, which may be on the meta device.

        Raises:
            SnapshotError: missing, damaged, or without one of the parts.
            ConfigError: they do not fit each other.
        """
        for part in self.parts:
            if part not in networks:
                raise ConfigError(f"init_from.parts: this task has no {part}")
            theirs, weights = read_network(self.snapshot, part)
            for what, there, here in (
                ("resolution", theirs.shape[1:], image.shape[1:]),
                ("channels", theirs.channels, image.channels),
                ("classes", theirs.classes, image.classes),
            ):
                if there != here:
                    raise ConfigError(f"init_from: {self.snapshot} has {what} {there}, data.{what} is {here}")
            ours = networks[part].state_dict()
            for name in sorted(ours.keys() | weights.keys()):
                if name not in ours or name not in weights or ours[name].shape != weights[name].shape:
                    raise ConfigError(
                        f"init_from: {part} {name} is {_size(weights, name)} in {self.snapshot}, "
                        f"{_size(ours, name)} in this config"
                    )
        if self.freeze_d:
            stages = len(_stages(networks["discriminator"]))
            if self.freeze_d > stages:
                raise ConfigError(f"init_from.freeze_d is {self.freeze_d}, the discriminator has {stages} stages")

    @torch.no_grad()
    def load(self, networks: Mapping[str, nn.Module]) -> None:
        """Give the networks the snapshot's weights, and freeze what is to be frozen; `check` has passed."""
        for part in self.parts:
            networks[part].load_state_dict(read_network(self.snapshot, part)[1])
        if self.freeze_d:
            for stage in _stages(networks["discriminator"])[: self.freeze_d]:
                stage.requires_grad_(False)


def _size(weights: Mapping[str, Tensor], name: str) -> str:
    return "x".join(map(str, weights[name].shape)) or "a scalar" if name in weights else "missing"


def _stages(network: nn.Module) -> list[nn.Module]:
    assert isinstance(network, Discriminator)
    return list(network.stages())

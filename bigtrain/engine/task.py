"""The interface of tasks: the fields that they read, their players, the phases of a step, and their sampler."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Literal, Self

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from bigtrain.core.batch import Batch
from bigtrain.core.config import Config
from bigtrain.core.state import Progress, Stateful
from bigtrain.engine.optimizers import OptimizerConfig
from bigtrain.engine.player import Phase, Player, Rivals
from bigtrain.engine.sampler import Sampler
from bigtrain.engine.strategy import Demands
from bigtrain.models import ArraySpec, DataSpec, ImageSpec
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.models.pretrained import FeatureMaps
from data_pipelines.fields.spec import FieldSpec

Role = Literal["generator", "discriminator"]
"""What a player is in the game."""

Fields = Mapping[str, FieldSpec]
"""The fields of a run's samples by name, as its config or its manifest declares them."""


class Task(ABC):
    """The networks and losses of a run, and the phases of its steps.

    The engine does not depend on any task, and a task does not depend on ranks.

    Attributes:
        players: players by name.
        optimizers: optimizer of each player, by the player's name.
        averaged: every network with an exponential moving average, by name: these networks are evaluated, previewed and
            exported. Each belongs to one of the players.
        specs: what each network, averaged or not, is built from, by name.
        sampler: how outputs are generated with the averaged networks.
        batches_per_step: number of new global batches that the phases of a step read in total.
        group: number of neighbouring samples that a network compares with each other, see `Batch.micro_batches`.
    """

    players: Mapping[str, Player]
    optimizers: Mapping[str, OptimizerConfig]
    averaged: Mapping[str, nn.Module]
    specs: Mapping[str, NetworkSpec]
    sampler: Sampler
    batches_per_step: int = 1
    group: int = 1

    @abstractmethod
    def phases(self, progress: Progress) -> Sequence[Phase]:
        """Return the phases of the next step, in order."""

    def networks(self) -> dict[str, nn.Module]:
        """Return the networks of all players by name."""
        return {name: network for player in self.players.values() for name, network in player.networks().items()}

    def frozen(self) -> list[FeatureMaps]:
        """Return the frozen pretrained networks that the players' losses use; see `Player.frozen`."""
        return [network for player in self.players.values() for network in player.frozen.values()]

    def before_step(self, progress: Progress) -> None:  # noqa: B027 - most networks are whole from the start
        """Prepare the networks for the next step, for example when they grow."""

    def after_step(self, progress: Progress) -> Mapping[str, Tensor]:
        """Update adaptive quantities, and return what to log of them. This is a collective operation."""
        return {}

    def stateful(self) -> Mapping[str, Stateful]:
        """Return the objects, besides players and optimizers, that must survive a crash."""
        return {}

    def logits_of(self, networks: Rivals, batch: Batch) -> Mapping[str, Tensor]:
        """Return the logits [N] with which each discriminator classifies samples, without changing any state.

        Args:
            networks: networks of all players, by name.
            batch: real samples.

        Returns:
            By the name that the discriminator's statistics end with (`signs/real/D_A`), `""` where there is one;
            nothing where no network judges whole samples.
        """
        return {}

    def shown(self, batch: Batch, progress: Progress) -> Mapping[str, Tensor]:
        """Return the fields of real samples as a discriminator sees them at this point, including augmentation."""
        return batch.fields

    def owner_of(self, network: nn.Module) -> tuple[str, str]:
        """Return the player that a network belongs to, and the network's name in it."""
        for name, player in self.players.items():
            for key, candidate in player.networks().items():
                if candidate is network:
                    return name, key
        raise KeyError("the network belongs to none of the task's players")


class TaskConfig(Config, ABC):
    """The part of a run's config that a task reads.

    Attributes:
        roles: role of each player that has one, by name; health monitors and presets of sweeps use it.
        optim: optimizer of each player, by the player's name.
        global_batch: number of samples in a step, over all ranks.
    """

    roles: ClassVar[Mapping[str, Role]] = MappingProxyType({"G": "generator", "D": "discriminator"})

    optim: dict[str, OptimizerConfig]
    global_batch: PositiveInt

    def uncompiled(self) -> Self:
        """Return the config of the same training whose networks are not compiled."""
        return self

    @abstractmethod
    def networks(self, fields: Fields) -> dict[str, NetworkSpec]:
        """Return what every network is built from, by the network's name.

        Raises:
            ValueError: the fields lack one that the task reads, or have it in another kind or shape.
        """

    @abstractmethod
    def demands(self) -> Demands:
        """Return what the objective asks of each player's strategy, and the key that asks it."""

    @abstractmethod
    def check_task(self, networks: Mapping[str, nn.Module], *, micro_batch: int) -> None:
        """Find out whether the objective fits its surroundings.

        Args:
            networks: built, perhaps without content, by the names of `networks`.
            micro_batch: samples that are computed together.

        Raises:
            ValueError: it does not, with the key and the reason.
        """

    @abstractmethod
    def build_sampler(self, fields: Fields, class_counts: Mapping[str, Sequence[int]]) -> Sampler:
        """Return the sampler of the task; see `build_task` for the arguments."""

    @abstractmethod
    def build_task(
        self, fields: Fields, class_counts: Mapping[str, Sequence[int]], *, seed: int, device: torch.device
    ) -> Task:
        """Build the task.

        Args:
            fields: of the samples.
            class_counts: number of the dataset's samples of each class, by class field: the shares in which a sampler
                draws classes. 0 for a class that is not trained on; without an entry, all are equal.
            seed: of everything random that is not tied to a training sample.
            device: where the networks live.
        """

    def check_weights(self) -> None:
        """Find out whether the weights of the networks that nobody trains are there.

        Raises:
            UserError: they are missing or wrong, with the key.
        """

    def check_players(self) -> None:
        """Find out whether the config names an optimizer for each player.

        Raises:
            ValueError: it does not, with the key and how to correct it.
        """
        players = self.demands().keys()
        if self.optim.keys() != players:
            raise ValueError(
                f"optim: has {', '.join(sorted(self.optim)) or 'nothing'}, but this task has the players "
                f"{', '.join(sorted(players))}: set an optimizer for each, for example optim.{min(players)}.lr"
            )


def class_count(fields: Fields, name: str = "class") -> int:
    """Return the number of classes of a class field; 0 where the samples have none."""
    return len(fields[name].classes) if name in fields else 0


def _missing_field(fields: Fields, name: str) -> str:
    return (
        f"this task reads the field '{name}', but data has {', '.join(fields) or 'none'}: declare it, as in "
        f"data.fields={{{name}: {{kind: image}}}}"
    )


def data_of(fields: Fields, name: str, classes: int = 0) -> DataSpec:
    """Return what a network is built for, from a field: images for the shape [C, H, W], arrays for any other.

    Raises:
        ValueError: there is no such field.
    """
    if name not in fields:
        raise ValueError(_missing_field(fields, name))
    shape = fields[name].shape
    return image_of(fields, name, classes) if len(shape) == 3 else ArraySpec(shape, classes)


def image_of(fields: Fields, name: str, classes: int = 0) -> ImageSpec:
    """Return what a network of images is built for, from a field of the shape [C, H, W].

    Raises:
        ValueError: there is no such field, or it has another shape.
    """
    if name not in fields:
        raise ValueError(_missing_field(fields, name))
    shape = fields[name].shape
    if len(shape) != 3:
        raise ValueError(f"this task reads '{name}' as images [C, H, W], but it has the shape {list(shape)}")
    channels, height, width = shape
    return ImageSpec(height, channels, classes, None if width == height else width)

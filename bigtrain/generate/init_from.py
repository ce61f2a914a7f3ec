"""Transfer learning: a run that starts from the networks of a snapshot or a run, perhaps with a part of them frozen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor, nn

from bigtrain.core.config import Config, ConfigError
from bigtrain.core.former_names import network_name
from bigtrain.core.logging import log
from bigtrain.generate.snapshot import DESCRIPTION, networks_in, read_weights
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.models.recompute import stages_of

_NAMED = 5
_WAY_ON = "; init_from.only=matching loads what fits, and initialises the rest"


class InitFromConfig(Config):
    """A snapshot whose weights the run starts from.

    Attributes:
        snapshot: folder of a snapshot, from a run or from `bigtrain import`; or a run folder, whose newest snapshot is
            used.
        parts: names of the networks to take, such as `[G]`; null for all networks of the run. The averages start from
            the snapshot as well.
        only: `matching` copies the weights that match by name and shape, and leaves all others as they are initialised,
            for example for other classes or another resolution; null requires all weights to match.
        freeze: number of stages of a network, counted from its input, whose weights do not change, by the network's
            name: `{D: 3}` (FreezeD, Mo et al. 2020).
    """

    snapshot: str
    parts: tuple[str, ...] | None = None
    only: Literal["matching"] | None = None
    freeze: dict[str, PositiveInt] = Field(default_factory=dict)

    @field_validator("parts")
    @classmethod
    def _by_present_names(cls, parts: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return parts and tuple(map(network_name, parts))

    def check(self, specs: Mapping[str, NetworkSpec], networks: Mapping[str, nn.Module]) -> None:
        """Compare the snapshot's networks with the run's, which may be on the meta device.

        Args:
            specs: what the run's networks are built from.
            networks: built from these.

        Raises:
            SnapshotError: missing, damaged, or without weights of one of the parts.
            ConfigError: they do not fit each other.
        """
        folder = self.folder
        theirs = networks_in(folder)
        for part in self._parts(networks):
            if part not in networks:
                has = ", ".join(sorted(networks))
                raise ConfigError(f"init_from.parts: this run has no network '{part}', it has {has}")
            if part not in theirs:
                has = ", ".join(sorted(theirs))
                raise ConfigError(
                    f"init_from: {folder} contains no {part} (it contains {has}); list the networks to load in parts"
                )
            ours, weights = networks[part].state_dict(), read_weights(folder, part)
            if self.only == "matching":
                if not _matching(ours, weights):
                    raise ConfigError(
                        f"init_from: no weight of {part} in {folder} fits this run: none has the same name and shape"
                    )
                continue
            for there, here in zip(theirs[part].data, specs[part].data, strict=False):
                for what in ("shape", "classes"):
                    one, other = getattr(there, what, None), getattr(here, what, None)
                    if one != other:
                        raise ConfigError(
                            f"init_from: {part} in {folder} has {what} {one}, but in this run {other}{_WAY_ON}"
                        )
            for name in sorted(ours.keys() | weights.keys()):
                if name not in ours or name not in weights or ours[name].shape != weights[name].shape:
                    raise ConfigError(
                        f"init_from: {part} {name} is {_size(weights, name)} in {folder}, but "
                        f"{_size(ours, name)} in this config{_WAY_ON}"
                    )
        self._check_frozen(networks)

    def _check_frozen(self, networks: Mapping[str, nn.Module]) -> None:
        for name, count in self.freeze.items():
            if name not in networks:
                has = ", ".join(sorted(networks))
                raise ConfigError(f"init_from.freeze: this run has no network '{name}', it has {has}")
            if name not in self._parts(networks):
                raise ConfigError(f"init_from.freeze would freeze random weights of {name}: add it to parts")
            stages = len(stages_of(networks[name]))
            if count > stages:
                raise ConfigError(f"init_from.freeze.{name} is {count}, but {name} has {stages} stages")

    @property
    def folder(self) -> Path:
        """The snapshot's folder; of a run folder, that of its newest snapshot.

        Raises:
            ConfigError: the run has no snapshot.
        """
        folder = Path(self.snapshot)
        if (folder / DESCRIPTION).is_file() or not (folder / "config.yaml").is_file():
            return folder
        found = sorted(path.parent for path in folder.glob(f"snapshots/kimg*/{DESCRIPTION}"))
        if not found:
            raise ConfigError(f"init_from.snapshot: {folder} is a run without a snapshot; see snapshot.interval_kimg")
        return found[-1]

    @torch.no_grad()
    def load(self, networks: Mapping[str, nn.Module]) -> None:
        """Give the networks the snapshot's weights, and freeze what is to be frozen; `check` has passed."""
        for part in self._parts(networks):
            weights, ours = read_weights(self.folder, part), networks[part].state_dict()
            taken = _matching(ours, weights) if self.only == "matching" else weights
            networks[part].load_state_dict(taken, strict=self.only is None)
            if new := sorted(ours.keys() - taken.keys()):
                named = ", ".join(new[:_NAMED]) + (", …" if len(new) > _NAMED else "")
                log.info(
                    "init_from: %s: %d of %d weights are loaded; initialised: %s", part, len(taken), len(ours), named
                )
        for name, count in self.freeze.items():
            for stage in stages_of(networks[name])[:count]:
                stage.requires_grad_(False)

    def _parts(self, networks: Mapping[str, nn.Module]) -> tuple[str, ...]:
        return tuple(networks) if self.parts is None else self.parts


def _matching(ours: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return those of the weights that fit ours by name and shape."""
    return {name: value for name, value in weights.items() if name in ours and ours[name].shape == value.shape}


def _size(weights: Mapping[str, Tensor], name: str) -> str:
    return "x".join(map(str, weights[name].shape)) or "a scalar" if name in weights else "missing"

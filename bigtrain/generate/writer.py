"""Writes a run's snapshots: now and then, and of the best networks so far."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import NonNegativeFloat
from torch import nn

from bigtrain.core.config import Config
from bigtrain.core.state import Progress
from bigtrain.distributed.collectives import on_rank_zero
from bigtrain.engine.step import without_prefix
from bigtrain.engine.strategy import Strategy
from bigtrain.engine.task import Task
from bigtrain.generate.averaged import AveragedNetworks
from bigtrain.generate.snapshot import SnapshotError, save_snapshot
from data_pipelines.files import replace_folder


class SnapshotConfig(Config):
    """How often snapshots are written, and what they contain.

    Attributes:
        interval_kimg: thousands of images between two snapshots; 0 for a snapshot at the end of the run only.
        discriminators: whether snapshots contain the networks that are not averaged as well, so that further training
            can start from them.
    """

    interval_kimg: NonNegativeFloat
    discriminators: bool = False


class SnapshotWriter:
    """Writes snapshots of a run.

    Args:
        config: what is in them.
        folder: the run folder.
        task: whose networks.
        strategies: of its players.
        averaged: the averaged networks.
        progress: of the run.
        class_names: empty when unconditional.
        dataset: name of the training data.
        before_failing: called before a run ends because a snapshot cannot be written.
    """

    def __init__(
        self,
        config: SnapshotConfig,
        folder: Path,
        task: Task,
        strategies: Mapping[str, Strategy],
        averaged: AveragedNetworks,
        progress: Progress,
        *,
        class_names: Sequence[str],
        dataset: str,
        before_failing: Callable[[], None],
    ) -> None:
        self._config, self._folder = config, folder / "snapshots"
        self._task, self._strategies, self._averaged, self._progress = task, strategies, averaged, progress
        self._class_names, self._dataset, self._before_failing = class_names, dataset, before_failing

    @property
    def final(self) -> Path:
        """The folder of the snapshot of this place of the run."""
        return self._folder / f"kimg{self._progress.kimg:010.3f}"

    @property
    def best(self) -> Path | None:
        """The folder of the best snapshot; None where there is none."""
        folder = self._folder / "best"
        return folder if folder.is_dir() else None

    def write(self, **facts: Any) -> Path:
        """Write the averaged networks, ready to use, and the averages by power functions below them. Collective.

        Args:
            facts: what else to tell of them, as JSON values.

        Raises:
            SnapshotError: the disk is full or the like.
        """
        folder = self.final
        networks = self._averaged.networks()
        others = self._others() if self._config.discriminators else {}

        def save_all() -> None:
            self._save(folder, {**networks, **others}, **facts)
            for sigma_rel, of_width in self._averaged.profiles().items():
                self._save(folder / f"sigma-{sigma_rel:g}", of_width, sigma_rel=sigma_rel)

        self._on_rank_zero(folder, save_all)
        return folder

    def write_best(self, **facts: Any) -> Path:
        """Write the averaged networks in the place of the best ones so far. Collective.

        Raises:
            SnapshotError: the disk is full or the like.
        """
        folder, networks = self._folder / "best", self._averaged.networks()
        self._on_rank_zero(folder, lambda: replace_folder(folder, lambda path: self._save(path, networks, **facts)))
        return folder

    def _on_rank_zero(self, folder: Path, write: Callable[[], None]) -> None:
        try:
            on_rank_zero(write)
        except OSError as error:
            self._before_failing()
            raise SnapshotError(f"{folder}: cannot be written ({error}); the newest checkpoint is untouched") from None

    def _save(self, folder: Path, networks: Mapping[str, nn.Module], **facts: Any) -> None:
        about = {"samples_seen": self._progress.samples_seen, "dataset": self._dataset, **facts}
        specs, sampler = self._task.specs, self._task.sampler
        save_snapshot(
            folder,
            networks,
            specs,
            sampler,
            averaged=self._task.averaged.keys(),
            class_names=self._class_names,
            facts=about,
        )

    def _others(self) -> dict[str, nn.Module]:
        """Return copies of the networks that are not averaged, with whole weights. Collective where sharded."""
        found: dict[str, nn.Module] = {}
        for name, network in self._task.networks().items():
            if name not in self._task.averaged and name in self._task.specs:  # not what a term has added to a player
                player, key = self._task.owner_of(network)
                weights = dict(without_prefix(self._strategies[player].full_params(), f"{key}."))
                found[name] = self._task.specs[name].build()
                found[name].load_state_dict(weights)
        return found

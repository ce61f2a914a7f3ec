"""Checkpoints: everything that a run needs to go on, in one folder that appears whole or not at all."""

import hashlib
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import PositiveFloat, PositiveInt

from bigtrain.core.config import Config
from bigtrain.core.errors import UserError
from bigtrain.core.logging import log
from bigtrain.core.state import Progress, State, Stateful
from bigtrain.distributed.collectives import barrier, from_rank_zero, is_rank_zero
from data_pipelines.files import atomic_write, sha256_of, write_json

FORMAT = "bigtrain-checkpoint/1"
_STATE, _DESCRIPTION = "state.pt", "checkpoint.json"


class CheckpointError(UserError):
    """A checkpoint cannot be written, or none of those that are there can be used."""


class CheckpointConfig(Config):
    """How often to save.

    Attributes:
        interval_kimg: thousands of images between two checkpoints; one is also saved when the run stops.
        keep: the newest so many stay.
    """

    interval_kimg: PositiveFloat
    keep: PositiveInt = 2


class Checkpoints:
    """Saves and loads the named stateful objects of a run.

    Args:
        config: how often, how many.
        folder: of the checkpoints.
        objects: by the names under which their state is kept.
    """

    def __init__(self, config: CheckpointConfig, folder: Path, objects: Mapping[str, Stateful]) -> None:
        self._config, self._folder, self._objects = config, folder, objects

    def save(self, progress: Progress, *, healthy: bool = True) -> Path:
        """Save the state of all objects. Collective.

        Args:
            progress: names the checkpoint.
            healthy: whether it is one to come back to, should training collapse.

        Raises:
            CheckpointError: the folder cannot be written; earlier checkpoints are untouched.
        """
        path = self._folder / f"kimg{progress.kimg:010.3f}"
        state: dict[str, State] = {name: value.state_dict() for name, value in self._objects.items()}
        problem = None
        if is_rank_zero():
            try:
                self._write(path, state, progress, healthy)
                self._prune()
            except OSError as error:
                problem = f"{path}: the checkpoint cannot be written ({error}); earlier ones are untouched"
        problem = from_rank_zero(problem)
        if problem:
            raise CheckpointError(problem)
        return path

    def load_latest(self) -> Path | None:
        """Load the newest whole checkpoint into the objects, if there is one. Collective.

        Raises:
            CheckpointError: there are checkpoints, but none that is whole.
        """
        path: Path | None = None
        problem = None
        if is_rank_zero():
            found = self._newest_first()
            path = next((candidate for candidate in found if self._is_whole(candidate)), None)
            if found and path is None:
                problem = f"{self._folder}: no whole checkpoint among {len(found)}; remove the folder to start afresh"
        path, problem = from_rank_zero((path, problem))
        if problem:
            raise CheckpointError(problem)
        self._load(path)
        return path

    def return_to_healthy(self) -> Path:
        """Load the newest whole checkpoint that was saved in good health, and set newer ones aside. Collective.

        Raises:
            CheckpointError: there is none.
        """
        path: Path | None = None
        if is_rank_zero():
            found = self._newest_first()
            path = next((one for one in found if self._is_healthy(one) and self._is_whole(one)), None)
            for newer in found[: found.index(path)] if path else []:
                aside = newer.with_name(f"{newer.name}.aside")
                shutil.rmtree(aside, ignore_errors=True)
                newer.rename(aside)
        path = from_rank_zero(path)
        if path is None:
            raise CheckpointError(f"{self._folder}: no healthy checkpoint to go back to")
        self._load(path)
        return path

    def _load(self, path: Path | None) -> None:
        if path is not None:
            state: dict[str, Any] = torch.load(path / _STATE, weights_only=True, map_location="cpu")
            for name, value in self._objects.items():
                value.load_state_dict(state[name])
        barrier()

    def _write(self, path: Path, state: dict[str, State], progress: Progress, healthy: bool) -> None:
        partial = path.with_name(f"{path.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        stream = io.BytesIO()
        torch.save(state, stream)
        data = stream.getbuffer()
        with atomic_write(partial / _STATE) as file:
            file.write(data)
        description = {
            "format": FORMAT,
            "samples_seen": progress.samples_seen,
            "healthy": healthy,
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        write_json(partial / _DESCRIPTION, description)
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)

    def _newest_first(self) -> list[Path]:
        return sorted(self._folder.glob("kimg*[0-9]"), reverse=True)

    def _is_whole(self, path: Path) -> bool:
        try:
            description = json.loads((path / _DESCRIPTION).read_text())
            whole = bool(description["format"] == FORMAT and description["sha256"] == sha256_of(path / _STATE))
        except (OSError, json.JSONDecodeError, KeyError):
            whole = False
        if not whole:
            log.warning("%s: damaged checkpoint, trying the one before", path)
        return whole

    def _is_healthy(self, path: Path) -> bool:
        try:
            return bool(json.loads((path / _DESCRIPTION).read_text())["healthy"])
        except (OSError, json.JSONDecodeError, KeyError):
            return False

    def _prune(self) -> None:
        """Keep the newest, and the newest healthy one in any case."""
        found = self._newest_first()
        keep = [*found[: self._config.keep], *[path for path in found if self._is_healthy(path)][:1]]
        for path in found:
            if path not in keep:
                shutil.rmtree(path)

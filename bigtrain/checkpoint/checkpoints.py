"""Save and load the named stateful objects of a run."""

import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from bigtrain.checkpoint.contents import open_state, shapes_of, split
from bigtrain.checkpoint.folders import (
    FORMAT,
    CheckpointFolder,
    Description,
    are_whole,
    hashes_of,
    listed_files,
    read_description,
)
from bigtrain.checkpoint.pieces import Piece, Stage, objects_in, own_pieces, write_pieces
from bigtrain.checkpoint.retention import CheckpointConfig
from bigtrain.core.errors import UserError
from bigtrain.core.logging import log
from bigtrain.core.saved import LoadsShares, in_memory
from bigtrain.core.state import Progress, Stateful
from bigtrain.distributed.collectives import any_rank, barrier, from_rank_zero, is_rank_zero, on_rank_zero


class CheckpointError(UserError):
    """A checkpoint cannot be written, or none of those that are there can be used."""


class Checkpoints:
    """Saves and loads the named stateful objects of a run; a thread writes while training goes on.

    Args:
        config: how often, how many.
        folder: of the checkpoints.
        objects: by the names under which their state is kept.
        facts: what a checkpoint tells of the run besides, such as digests of its config and data.
        on_damage: called with the path of a damaged checkpoint that is skipped.
        device: where this rank computes; None for the CPU.

    Attributes:
        blocked_s: seconds for which the last `save` held up the training.
    """

    def __init__(
        self,
        config: CheckpointConfig,
        folder: Path,
        objects: Mapping[str, Stateful],
        *,
        facts: Mapping[str, str] | None = None,
        on_damage: Callable[[Path], None] = lambda path: None,
        device: torch.device | None = None,
    ) -> None:
        self._config, self._folder, self._objects = config, CheckpointFolder(folder), objects
        self._facts, self._on_damage = dict(facts or {}), on_damage
        self._best = False
        self._stage = Stage()
        # The writing thread talks to its peers while training does: it needs connections of its own.
        group = dist.new_group(backend="gloo", timeout=timedelta(minutes=30))
        assert isinstance(group, dist.ProcessGroup)  # every rank is in it
        self._group = group
        # A new thread begins on GPU 0, whichever this rank's is: it would wait for that one's streams.
        settle = partial(torch.cuda.set_device, device) if device is not None and device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint", initializer=settle)
        self._writing: Future[Path] | None = None
        self.blocked_s = 0.0

    def note_best(self) -> None:
        """Take note that an evaluation was the best so far: the next checkpoint is kept until there is a better one."""
        self._best = True

    def save(self, progress: Progress, *, healthy: bool = True) -> Path:
        """Save the state of all objects, and return before it is written. Collective.

        Args:
            progress: names the checkpoint.
            healthy: whether it is one to come back to, should training collapse.

        Raises:
            CheckpointError: the one before could not be written; those before it are untouched.
        """
        began = time.perf_counter()
        self.wait()
        path = self._folder.name(progress)
        structure, tensors = split({name: value.state_dict() for name, value in self._objects.items()})
        description = {
            "format": FORMAT,
            "samples_seen": progress.samples_seen,
            "world_size": dist.get_world_size(),
            "healthy": healthy,
            "best": self._best,
            **self._facts,
            "state": structure,
            "tensors": shapes_of(tensors),
        }
        self._best = False
        pieces = self._stage.copy(own_pieces(tensors, dist.get_rank(), dist.get_world_size()))
        self._writing = self._thread.submit(self._write, path, pieces, description, began)
        self.blocked_s = time.perf_counter() - began
        return path

    @property
    def failed(self) -> bool:
        """Whether the writing has failed by now; ranks learn of it at different moments."""
        return self._writing is not None and self._writing.done() and self._writing.exception() is not None

    def wait(self) -> Path | None:
        """Wait until what was saved last is on disk; return it, once. Collective.

        Raises:
            CheckpointError: it could not be written; earlier ones are untouched.
        """
        writing, self._writing = self._writing, None
        return writing.result() if writing is not None else None

    def load_latest(self) -> Path | None:
        """Load the newest whole checkpoint into the objects, if there is one. Collective.

        Raises:
            CheckpointError: there are checkpoints, but none that is whole.
        """
        if is_rank_zero():
            self._folder.recover()
        found = from_rank_zero(self._folder.newest_first() if is_rank_zero() else [])
        path = self._first_whole(found)
        if found and path is None:
            raise CheckpointError(
                f"{self._folder.path}: no complete checkpoint among {len(found)}; remove the folder to start anew"
            )
        if is_rank_zero():
            for damaged in found[: found.index(path)] if path else []:  # out of the way
                self._folder.set_aside(damaged, "damaged")
                self._on_damage(damaged)
        self._load(path)
        return path

    def return_to_healthy(self) -> Path:
        """Load the newest whole checkpoint that was saved in good health, and set newer ones aside. Collective.

        Raises:
            CheckpointError: there is none.
        """
        self.wait()
        found = self._folder.newest_first() if is_rank_zero() else []
        path = self._first_whole(from_rank_zero([one for one in found if _is_healthy(one)]))
        if path is None:
            raise CheckpointError(f"{self._folder.path}: no healthy checkpoint to return to")
        for newer in found[: found.index(path)] if found else []:
            self._folder.set_aside(newer, "aside")
        self._load(path)
        return path

    def _first_whole(self, found: list[Path]) -> Path | None:
        """Return the first that is whole; the ranks share the hashing. Collective."""
        for path in found:
            files = from_rank_zero(listed_files(path) if is_rank_zero() else None)
            share = list((files or {}).items())[dist.get_rank() :: dist.get_world_size()]
            if not any_rank(files is None or not are_whole(path, dict(share))):
                return path
            if is_rank_zero():
                log.warning("%s: damaged checkpoint, trying the previous one", path)
        return None

    def _load(self, path: Path | None) -> None:
        """Load one object after the other; of what is sharded over the ranks, each reads its own share."""
        if path is not None:
            for name, value in self._objects.items():
                state = open_state(path, name, rank=dist.get_rank(), world_size=dist.get_world_size())
                if isinstance(value, LoadsShares):
                    value.load_shares(state)
                else:
                    value.load_state_dict(in_memory(state))
        barrier()

    def _write(self, path: Path, pieces: Mapping[str, Piece], description: Description, began: float) -> Path:
        """Write a checkpoint whose saving began at that time, in the thread. Collective over the thread's group."""
        partial: Path | None = None
        try:
            partial = on_rank_zero(lambda: self._folder.begin(path), self._group)
            parts = self._gather(_written(partial, pieces))

            def commit() -> None:
                if problems := sorted({part for part in parts if isinstance(part, str)}):
                    raise OSError("; ".join(problems))
                files = {name: about for part in parts for name, about in part.items()}
                seconds = round(time.perf_counter() - began, 3)
                self._folder.commit(path, {**description, "files": files, "seconds": seconds})

            on_rank_zero(commit, self._group)
            on_rank_zero(lambda: self._folder.prune(self._config), self._group)
        except OSError as error:
            if partial is not None and is_rank_zero():
                shutil.rmtree(partial, ignore_errors=True)
            raise CheckpointError(
                f"{path}: the checkpoint cannot be written ({error}); earlier ones are untouched"
            ) from None
        return path

    def _gather(self, value: Any) -> list[Any]:
        """Return every rank's value, on rank 0; nothing on the others."""
        box: list[Any] = [None] * dist.get_world_size()
        dist.gather_object(value, box if is_rank_zero() else None, dst=0, group=self._group)
        return box if is_rank_zero() else []


def _written(folder: Path, pieces: Mapping[str, Piece]) -> dict[str, Any] | str:
    """Write this rank's pieces; return size, SHA-256 and objects of its files by name, or what is wrong."""
    try:
        files = hashes_of(write_pieces(folder, pieces, dist.get_rank()))
    except OSError as error:
        return str(error)
    return {name: {**about, "objects": objects_in(pieces)} for name, about in files.items()}


def _is_healthy(path: Path) -> bool:
    description = read_description(path)
    return description is not None and bool(description["healthy"])

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
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from bigtrain.checkpoint.contents import Stage, files_of, load_state, split, write_tensors
from bigtrain.checkpoint.folders import FORMAT, CheckpointFolder, Description, hashes_of, is_whole, read_description
from bigtrain.checkpoint.retention import CheckpointConfig
from bigtrain.core.errors import UserError
from bigtrain.core.state import Progress, State, Stateful
from bigtrain.distributed.collectives import barrier, from_rank_zero, is_rank_zero, on_rank_zero


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
        }
        self._best = False
        self._writing = self._thread.submit(self._write, path, self._stage.copy(tensors), description, began)
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
        path: Path | None = None
        problem = None
        if is_rank_zero():
            self._folder.recover()
            found = self._folder.newest_first()
            path = self._first_whole(found)
            if found and path is None:
                problem = (
                    f"{self._folder.path}: no whole checkpoint among {len(found)}; remove the folder to start afresh"
                )
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
        self.wait()
        path: Path | None = None
        if is_rank_zero():
            found = self._folder.newest_first()
            path = next((one for one in found if _is_healthy(one) and is_whole(one)), None)
            for newer in found[: found.index(path)] if path else []:
                self._folder.set_aside(newer, "aside")
        path = from_rank_zero(path)
        if path is None:
            raise CheckpointError(f"{self._folder.path}: no healthy checkpoint to go back to")
        self._load(path)
        return path

    def _first_whole(self, found: list[Path]) -> Path | None:
        """Return the newest whole one, and take newer ones, which are damaged, out of the way."""
        path = next((one for one in found if is_whole(one)), None)
        for damaged in found[: found.index(path)] if path else []:
            self._folder.set_aside(damaged, "damaged")
            self._on_damage(damaged)
        return path

    def _load(self, path: Path | None) -> None:
        if path is not None:
            state: State = load_state(path)
            for name, value in self._objects.items():
                value.load_state_dict(state[name])
        barrier()

    def _write(self, path: Path, tensors: Mapping[str, Tensor], description: Description, began: float) -> Path:
        """Write a checkpoint whose saving began at that time, in the thread. Collective over the thread's group."""
        partial: Path | None = None
        problem = None
        try:
            partial = on_rank_zero(lambda: self._folder.begin(path), self._group)
            write_tensors(partial, tensors, self._group)
            parts = self._gather(hashes_of(files_of(partial, dist.get_rank())))
            files = {name: about for part in parts for name, about in part.items()}
            seconds = round(time.perf_counter() - began, 3)
            whole = {**description, "files": files, "seconds": seconds}
            on_rank_zero(lambda: self._folder.commit(path, whole), self._group)
            on_rank_zero(lambda: self._folder.prune(self._config), self._group)
        except CheckpointException as error:
            problem = "; ".join(sorted({str(failure) for failure, _ in error.failures.values()}))
        except OSError as error:
            problem = str(error)
        if problem:
            if partial is not None and is_rank_zero():
                shutil.rmtree(partial, ignore_errors=True)
            raise CheckpointError(f"{path}: the checkpoint cannot be written ({problem}); earlier ones are untouched")
        return path

    def _gather(self, value: Any) -> list[Any]:
        """Return every rank's value, on rank 0; nothing on the others."""
        box: list[Any] = [None] * dist.get_world_size()
        dist.gather_object(value, box if is_rank_zero() else None, dst=0, group=self._group)
        return box if is_rank_zero() else []


def _is_healthy(path: Path) -> bool:
    description = read_description(path)
    return description is not None and bool(description["healthy"])

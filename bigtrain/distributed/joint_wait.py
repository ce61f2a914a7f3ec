"""Let all ranks give a step up together, when a run is asked to stop while they wait for samples."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from torch.distributed import distributed_c10d as c10d

from bigtrain.core import stop

_LOOK_SECONDS = 2.0
"""How often a rank that was not asked to stop looks whether another one was."""

_STOP, _GO_ON = "stop", "go on"


class StepGivenUpError(Exception):
    """All ranks waited for samples when the run was asked to stop, and none has begun the step."""


class JointWait:
    """One rank's part in the decision to wait for samples no more.

    Ranks agree to stop by a vote after each step, and a step that waits for samples has no end. A rank that has its
    samples begins the step and then waits for the others, so a step is given up only if no rank has begun it. Each rank
    that waits, and knows that the run shall stop, adds itself to a count in the group's store. Whoever makes the count
    complete writes "stop" for this batch; a counted rank whose samples have come writes "go on". The first word holds.

    Nothing is sent while nobody has waited for long.

    Args:
        world_size: number of ranks.
        find_store: returns the store that they share; by default, that of the process group.
    """

    def __init__(self, world_size: int, find_store: Callable[[], c10d.Store] = c10d._get_default_store) -> None:
        self._find_store = find_store
        self._world_size, self._batch, self._counted, self._look_at = world_size, 0, False, 0.0

    @contextmanager
    def batch(self, measured: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
        """Be the wait for a batch, which every rank must take as the one with the same number.

        Args:
            measured: makes the context in which it is waited for.

        Raises:
            StepGivenUpError: all ranks have given it up.
        """
        self._batch, self._counted = self._batch + 1, False
        with measured():
            yield
        if self._counted and self._store.compare_set(self._word, "", _GO_ON).decode() == _STOP:
            raise StepGivenUpError

    def look(self) -> None:
        """See whether to go on waiting; to be called again and again.

        Raises:
            StepGivenUpError: all ranks wait, and the run shall stop.
        """
        if self._world_size == 1:
            if stop.received() is not None:
                raise StepGivenUpError
            return
        try:
            if not self._counted and self._asked():
                self._count()
            given_up = (
                self._counted and self._store.check([self._word]) and self._store.get(self._word) == _STOP.encode()
            )
        except (
            RuntimeError
        ):  # whoever holds the store is gone: this rank waits for its samples, and then meets the same
            return
        if given_up:
            raise StepGivenUpError

    @property
    def _store(self) -> c10d.Store:
        return c10d.PrefixStore("waiting", self._find_store())

    @property
    def _word(self) -> str:
        return f"batch/{self._batch}"

    def _asked(self) -> bool:
        if stop.received() is not None:
            self._store.set("asked", "")
            return True
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + _LOOK_SECONDS
        return self._store.check(["asked"])

    def _count(self) -> None:
        self._counted = True
        if self._store.add(f"{self._word}/ranks", 1) == self._world_size:
            self._store.compare_set(self._word, "", _STOP)

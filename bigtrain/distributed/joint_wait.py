"""Let all ranks give a step up together, when a run is asked to stop while some of them wait for samples."""

import contextlib
import time
from collections.abc import Callable

from torch.distributed import distributed_c10d as c10d

from bigtrain.core import stop

_FIRST_POLL_S, _POLL_S = 0.0005, 0.2
_STOP, _GO_ON = b"stop", b"go on"


class StepGivenUpError(Exception):
    """The run was asked to stop while ranks waited for samples, and none has begun the step."""


class JointWait:
    """One rank's part in the decision to begin a step, or to give it up.

    A rank that has its samples begins the step, and then waits in a collective operation, which nothing interrupts, for
    one whose samples do not come. So the ranks tell each other in the vote after each step whether their next samples
    have been read (`Stopping`). Where those of all ranks have, a step just begins. Else no rank begins it before all
    have theirs: the last one to get them writes "go on" into the group's store. A rank that was asked to stop writes
    "stop". The first word holds.

    Args:
        world_size: number of ranks.
        find_store: returns the store that they share; by default, that of the process group.

    Attributes:
        together: whether the next step is begun together; the same on all ranks.
    """

    def __init__(self, world_size: int, find_store: Callable[[], c10d.Store] = c10d._get_default_store) -> None:
        self._world_size, self._find_store = world_size, find_store
        self._steps = 0
        self.together = False

    def look(self) -> None:
        """See whether to go on waiting for samples; to be called again and again.

        Raises:
            StepGivenUpError: the step is given up.
        """
        if self._world_size == 1 and stop.received() is not None:
            raise StepGivenUpError
        if self._world_size == 1 or not self.together:
            return
        store = self._store
        with contextlib.suppress(RuntimeError):  # the launcher, which holds the store, is gone: wait for the samples
            if stop.received() is not None:
                store.compare_set(self._word, "", _STOP.decode())
            if store.check([self._word]) and store.get(self._word) == _STOP:
                raise StepGivenUpError

    def meet(self) -> None:
        """Wait until all ranks have the samples of the step, if it is begun together. Collective.

        Raises:
            StepGivenUpError: the step is given up.
        """
        self._steps += 1
        if self._world_size == 1 or not self.together:
            return
        store, wait = self._store, _FIRST_POLL_S
        try:
            if store.add(f"{self._word}/ready", 1) == self._world_size:
                store.compare_set(self._word, "", _GO_ON.decode())
            while not store.check([self._word]):  # `Store.wait` would log a warning for each time that it waits in vain
                time.sleep(wait)
                wait = min(2 * wait, _POLL_S)
                if wait == _POLL_S:
                    self.look()
            word = store.get(self._word)
        except RuntimeError:  # the launcher is gone, see `look`
            return
        if word == _STOP:
            raise StepGivenUpError

    @property
    def _store(self) -> c10d.Store:
        return c10d.PrefixStore("waiting", self._find_store())

    @property
    def _word(self) -> str:
        return f"step/{self._steps}"

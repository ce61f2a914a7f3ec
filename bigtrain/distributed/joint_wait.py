"""Let all ranks give a step up together, when a run is asked to stop while some of them wait for samples."""

import contextlib
import time

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d as c10d

from bigtrain.core import stop

_FIRST_POLL_S, _POLL_S = 0.0001, 0.05
_LOOK_S = 2.0
"""How often a rank that was not asked to stop looks whether another one was."""
_ASKED = "waiting/asked"


class StepGivenUpError(Exception):
    """The run was asked to stop while ranks waited for samples, and none has begun the step."""


class JointWait:
    """One rank's part in the decision to begin a step, or to give it up.

    A rank that has its samples begins the step, and then waits in a collective operation, which nothing interrupts, for
    one whose samples do not come. So the ranks tell each other in the vote after each step whether their next samples
    have been read (`Stopping`). Where those of all ranks have, a step just begins. Else no rank begins it before all
    have answered a question of their own: a rank whose samples have come says "begin", one that still waits for them
    when it is asked to stop says "give up", and one of these is enough.

    Args:
        world_size: number of ranks.

    Attributes:
        together: whether the next step is begun together; the same on all ranks.
    """

    def __init__(self, world_size: int) -> None:
        self._world_size, self._look_at, self._told = world_size, 0.0, False
        self.together = False

    def look(self) -> None:
        """See whether to go on waiting for samples; to be called again and again.

        Raises:
            StepGivenUpError: the step is given up.
        """
        if self._world_size == 1 and stop.received() is not None:
            raise StepGivenUpError
        if self._world_size > 1 and self.together and self._is_asked():
            self._answer(give_up=True)

    def meet(self) -> None:
        """Wait until all ranks have the samples of the step, if it is begun together. Collective.

        Raises:
            StepGivenUpError: the step is given up.
        """
        if self._world_size > 1 and self.together:
            self._answer(give_up=False)

    def _answer(self, *, give_up: bool) -> None:
        """Answer for this step, once, and wait for what comes out."""
        value, wait = torch.tensor([int(give_up)], dtype=torch.int32), _FIRST_POLL_S
        work = dist.all_reduce(value, op=dist.ReduceOp.MAX, async_op=True)
        while not work.is_completed():
            self._is_asked()  # the others shall know
            time.sleep(wait)
            wait = min(2 * wait, _POLL_S)
        work.wait()
        if value.item():
            raise StepGivenUpError

    def _is_asked(self) -> bool:
        """Tell whether a rank was asked to stop: this one, which tells the others, or, looked up at times, another."""
        asked = stop.received() is not None
        if asked == self._told and time.monotonic() < self._look_at:
            return asked
        self._look_at = time.monotonic() + _LOOK_S
        with contextlib.suppress(RuntimeError):  # the launcher, which may hold the store, is gone; all ranks notice
            store = c10d._get_default_store()
            if asked and not self._told:
                store.set(_ASKED, "")
                self._told = True
            return asked or store.check([_ASKED])
        return asked

"""When to evaluate: every so many images, as far as a budget of time allows; the same answer on every rank."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from bigtrain.core.state import Progress, State
from bigtrain.distributed.collectives import from_rank_zero

Clock = Callable[[], float]


class EvalSchedule:
    """Decides which evaluations are due, and keeps the account of their time.

    An evaluation that would take more than its share of the run's time so far is left out, and comes at a later
    multiple of its interval. The first of a kind, whose cost is not known yet, and the last of a run always take place.
    An evaluation that was broken off is due until it is done.

    Args:
        intervals: thousands of images between two evaluations of each kind; 0 for never.
        max_share: of the run's time that evaluations may take, shared evenly between the kinds; None for no limit,
            which keeps a run independent of how fast the machine is.
        clock: seconds.
    """

    def __init__(
        self, intervals: Mapping[str, float], max_share: float | None, *, clock: Clock = time.perf_counter
    ) -> None:
        self._intervals = {kind: interval for kind, interval in intervals.items() if interval}
        self._share = None if max_share is None else max_share / max(len(self._intervals), 1)
        self._clock, self._began, self._before = clock, clock(), 0.0
        self._spent = dict.fromkeys(self._intervals, 0.0)
        self._cost: dict[str, float] = {}
        self._unfinished: list[str] = []
        self.left_out = 0

    def due(self, progress: Progress) -> list[str]:
        """Return the kinds that are due after the step just taken. Collective where any may be."""
        reached = [kind for kind, interval in self._intervals.items() if progress.passed(interval)]
        if not reached or self._share is None or progress.done:
            return reached
        allowed = from_rank_zero([kind for kind in reached if self._affordable(kind)])
        self.left_out += len(reached) - len(allowed)
        return allowed

    @property
    def unfinished(self) -> list[str]:
        """The kinds that were begun at this place of the run and broken off."""
        return list(self._unfinished)

    def begin(self, kinds: Sequence[str]) -> None:
        """Note that these evaluations have to be done at this place of the run."""
        self._unfinished = list(kinds)

    @contextmanager
    def account(self, kind: str) -> Iterator[None]:
        """Measure an evaluation; one that ends with an exception remains unfinished."""
        began = self._clock()
        try:
            yield
            self._unfinished.remove(kind)
            self._cost[kind] = self._clock() - began
        finally:
            self._spent[kind] += self._clock() - began

    def state_dict(self) -> State:
        """See Stateful; no clock is in it where there is no limit."""
        state: State = {"unfinished": list(self._unfinished), "left_out": self.left_out}
        if self._share is None:
            return state
        return {**state, **from_rank_zero({"elapsed": self._elapsed(), "spent": self._spent, "cost": self._cost})}

    def load_state_dict(self, state: State) -> None:
        """See Stateful."""
        self._unfinished = [kind for kind in state["unfinished"] if kind in self._intervals]
        self.left_out = state["left_out"]
        self._began, self._before = self._clock(), state.get("elapsed", 0.0)
        self._spent = {kind: state.get("spent", {}).get(kind, 0.0) for kind in self._intervals}
        self._cost = dict(state.get("cost", {}))

    def _elapsed(self) -> float:
        return self._before + self._clock() - self._began

    def _affordable(self, kind: str) -> bool:
        assert self._share is not None
        if kind not in self._cost:
            return True
        cost = self._cost[kind]
        return self._spent[kind] + cost <= self._share * (self._elapsed() + cost)

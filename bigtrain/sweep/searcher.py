"""What proposes the points of a sweep."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from bigtrain.core.config import Config
from bigtrain.sweep.event_log import Trial
from bigtrain.sweep.metric import Direction
from bigtrain.sweep.space import Point, Space


class Searcher(Config, ABC):
    """A searcher; it keeps nothing, so that a resumed sweep needs no state but the event log."""

    kind: str

    @abstractmethod
    def point(
        self, number: int, space: Space, trials: Mapping[int, Trial], direction: Direction, *, seed: int
    ) -> Point | None:
        """Return the point of trial `number`, which is above 0; None if the search is exhausted.

        Args:
            number: number of the trial.
            space: the search space.
            trials: all earlier trials, by number.
            direction: whether the metric is minimised or maximised.
            seed: seed of the search.
        """

"""What a rule that stops trials early must be able to do."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from bigtrain.core.config import Config
from bigtrain.sweep.event_log import Trial
from bigtrain.sweep.metric import Direction, TrialScore

Trials = Mapping[int, Trial]


class Rule(Config, ABC):
    """A rule that stops trials early, or changes them."""

    kind: str

    @abstractmethod
    def reason_to_stop(
        self, trial: Trial, score: TrialScore, trials: Trials, direction: Direction, total_kimg: float
    ) -> str | None:
        """Return why a trial stops after a new score; None if it goes on.

        Args:
            trial: the trial, with the new score among its scores.
            score: the new score.
            trials: all trials of the search, by number.
            direction: whether the metric is minimised or maximised.
            total_kimg: thousands of images of a whole training.
        """

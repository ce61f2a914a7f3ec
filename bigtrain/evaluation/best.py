"""The best score of a run so far."""

import math
from collections.abc import Mapping

from bigtrain.core.state import Progress, State
from bigtrain.evaluation.protocol import ProtocolError, Score, kind_of


class Best:
    """The best score so far; a new score replaces it only if it is better by more than the noise of both.

    Args:
        value: its short name, such as `fid`; None for the first of the scores.

    Attributes:
        score: the best so far, or None.
        samples_seen: where in the run that was.
    """

    def __init__(self, value: str | None) -> None:
        self._value = value
        self.score: Score | None = None
        self.samples_seen = 0

    def update(self, scores: Mapping[str, Score], progress: Progress) -> bool:
        """Tell whether the new scores hold one that is better, and remember it."""
        new = next((score for score in scores.values() if self._value in (None, kind_of(score))), None)
        if new is None or not math.isfinite(new.value) or not self._beaten_by(new):
            return False
        self.score, self.samples_seen = new, progress.samples_seen
        return True

    def state_dict(self) -> State:
        """See Stateful."""
        return {"score": self.score.as_json() if self.score else None, "samples_seen": self.samples_seen}

    def load_state_dict(self, state: State) -> None:
        """See Stateful."""
        self.score = Score.from_json(state["score"]) if state["score"] else None
        self.samples_seen = state["samples_seen"]

    def _beaten_by(self, new: Score) -> bool:
        if self.score is None:
            return True
        try:
            return new.beats(self.score)
        except ProtocolError:  # the run goes on under another protocol: what was best before says nothing now
            return True

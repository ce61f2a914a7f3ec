"""The decisions of a scheduler of Ray Tune on the trials of a sweep, as a function of the sweep's event log.

Ray's schedulers keep what they are told, and save it as a pickle from time to time. Here a scheduler is told each event
of the log when it is written; a resumed sweep tells a new one all events again, and so comes to the same state.
"""

import logging
import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Literal

from bigtrain.sweep.event_log import Event
from bigtrain.sweep.metric import Direction, TrialScore
from bigtrain.sweep.schedulers import RayScheduler
from bigtrain.sweep.searchers import seeded
from bigtrain.sweep.space import Point, Space

_WORST = 1e30
"""What stands for a score that is no finite number: Ray's percentiles know no infinity."""

Decision = Literal["continue", "stop", "pause"]


class RayDecisions:
    """Decides on the trials of a sweep by a scheduler of Ray Tune.

    Args:
        config: the scheduler.
        total_kimg: thousands of images of a whole training.
        space: the search space.
        trials: number of trials of the search.
        seed: seed of the sweep.

    Attributes:
        name: name of the scheduler.
    """

    search_alg = SimpleNamespace(searcher=SimpleNamespace(on_pause=lambda trial: None, on_unpause=lambda trial: None))
    """The searcher of BOHB, which Ray's scheduler tells which trials are paused; it proposes points without that."""

    def __init__(self, config: RayScheduler, total_kimg: float, space: Space, trials: int, seed: int) -> None:
        logging.getLogger("ray.tune.schedulers").setLevel(logging.WARNING)  # the sweep tells what is decided
        self._config, self._total, self._space, self._seed = config, total_kimg, space, seed
        self._scheduler = config.make(total_kimg, space)
        self._trials: dict[int, _Trial] = {}
        self._closed = 0
        self.name = config.name
        if config.pauses:  # it must know how many there will be, before the first of them waits for the others
            for number in range(trials):
                self._add(number)

    def on_event(self, event: Event) -> None:
        """Take notice of an event that has been written to the log."""
        number = event.get("number")
        match event["event"]:
            case "trial" if event["repeats"] is None and number not in self._trials:
                self._add(event["number"])
            case "start" if number in self._trials:
                self._trials[event["number"]].status = "RUNNING"
            case "score" if number in self._trials and not self._config.copies:
                score = TrialScore(event["samples_seen"], event["value"])
                self._on_score(self._trials[event["number"]], score, Direction(maximize=event["higher_is_better"]))
            case "end" if number in self._trials:
                if self._config.pauses:  # Ray leaves it set, and then waits for ever for a trial that has failed
                    self._scheduler._trial_info[self._trials[event["number"]]][0].is_being_processed = False
                self._on_end(self._trials[event["number"]], failed=event["state"] == "failed")
            case "generation" if event["index"] >= self._closed and "standings" in event:
                standings = {int(one): (point, score) for one, (point, score) in event["standings"].items()}
                self.moves(event["index"], standings)
        if self._config.name == "hb_bohb":  # where no trial runs, it goes on with a bracket that is not filled
            self._scheduler.choose_trial_to_run(self)

    def decision(self, number: int) -> Decision:
        """Return what becomes of a trial after its newest score."""
        status = "RUNNING" if self._config.copies else self._trials[number].status
        return "pause" if status == "PAUSED" else "stop" if status == "TERMINATED" else "continue"

    def may_run(self, number: int) -> bool:
        """Return whether a trial need not wait for others."""
        trial = self._trials.get(number)
        waits = self._config.pauses and trial is not None and trial.status == "PAUSED"
        return not waits or self._scheduler.choose_trial_to_run(self) is trial

    def moves(self, index: int, standings: Mapping[int, tuple[Point, float]]) -> list[tuple[int, int, Point | None]]:
        """Decide which trials copy others at a boundary.

        Args:
            index: number of the boundary, from 0.
            standings: point and score of each trial by number; lower scores are better.

        Returns:
            For each trial that is replaced: its number, the number of the other trial, and the new point, or None if
            that does not satisfy the constraints.
        """
        shares = self._config.name == "pb2"
        self._closed = index + 1
        trials = {number: self._trials[number] for number in standings}
        for number, trial in self._trials.items():
            trial.status, trial.copied = "RUNNING" if number in standings else "ERROR", None
        with seeded(self._seed * 10_000 + self._closed):
            for number, (point, score) in standings.items():
                own = self._space.all_coordinates(point)
                trials[number].config = self._space.to_shares(own) if shares else own
                result = {"boundary": self._closed, "score": score if math.isfinite(score) else _WORST}
                self._scheduler.on_trial_result(self, trials[number], result)
                trials[number].status = "PAUSED"
        moved = [(number, trial.copied, trial.config) for number, trial in trials.items() if trial.copied is not None]
        return [
            (number, donor, self._space.at(self._space.from_shares(config) if shares else config))
            for number, donor, config in moved
        ]

    def _add(self, number: int) -> None:
        self._trials[number] = trial = _Trial(number, dict.fromkeys(self._space.dimensions, 0.0))
        with seeded(self._seed * 10_000 + number):
            self._scheduler.on_trial_add(self, trial)

    def _on_score(self, trial: "_Trial", score: TrialScore, direction: Direction) -> None:
        if trial.is_finished():
            return
        key = direction.key(score)
        trial.last_result = {"kimg": score.kimg, "score": key if math.isfinite(key) else _WORST}
        answer = self._scheduler.on_trial_result(self, trial, dict(trial.last_result))
        if score.kimg >= self._total:
            return  # it ends by itself
        if answer == "STOP":
            self._on_end(trial, failed=False)
        elif answer == "PAUSE" and self._config.pauses:
            trial.status = "PAUSED"

    def _on_end(self, trial: "_Trial", *, failed: bool) -> None:
        if not trial.is_finished():
            trial.status = "ERROR" if failed else "TERMINATED"
            if self._config.pauses:
                self._scheduler.on_trial_remove(self, trial)

    # What Ray's schedulers need of its controller

    def get_trials(self) -> "list[_Trial]":
        """See TuneController."""
        return [trial for trial in self._trials.values() if not trial.is_finished()]

    get_live_trials = get_trials

    def stop_trial(self, trial: "_Trial") -> None:
        """See TuneController."""
        self._on_end(trial, failed=False)

    def pause_trial(self, trial: "_Trial", should_checkpoint: bool = True) -> None:
        """See TuneController."""
        trial.status = "PAUSED"

    def _schedule_trial_save(self, trial: "_Trial", result: Mapping[str, Any] | None = None) -> SimpleNamespace:
        """See TuneController: a checkpoint that knows whose it is."""
        return trial.checkpoint


class _Trial:
    """What Ray's schedulers need of a trial.

    Attributes:
        copied: number of the trial whose checkpoint it takes over; None if it keeps its own.
    """

    is_saving = False
    experiment_tag = ""
    temporary_state = SimpleNamespace(saving_to=None)

    def __init__(self, number: int, config: dict[str, Any]) -> None:
        self.number, self.trial_id, self.config = number, str(number), config
        self.status = "RUNNING"
        self.copied: int | None = None
        self.last_result: dict[str, Any] = {}
        self.evaluated_params: dict[str, Any] = {}
        self.checkpoint = SimpleNamespace(number=number)
        self.checkpoint_config = SimpleNamespace(num_to_keep=None)
        self.run_metadata = SimpleNamespace(checkpoint_manager=self)

    def __repr__(self) -> str:
        """PB2 tells trials apart by their names."""
        return self.trial_id

    def __setattr__(self, name: str, value: Any) -> None:
        """Let Ray give this trial the checkpoint of another one."""
        if name == "_latest_checkpoint_result":
            self.copied = value.checkpoint.number
        object.__setattr__(self, name, value)

    def is_finished(self) -> bool:
        """See ray.tune.experiment.Trial."""
        return self.status in ("TERMINATED", "ERROR")

    def set_config(self, config: dict[str, Any]) -> None:
        """See ray.tune.experiment.Trial."""
        self.config = config

    def set_experiment_tag(self, tag: str) -> None:
        """See ray.tune.experiment.Trial."""

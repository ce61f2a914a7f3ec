"""The trial scheduler of a sweep: proposes trials, records their scores, and decides which trials go on."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from bigtrain.core.config import dump_yaml
from bigtrain.sweep.decisions import Decision, RayDecisions
from bigtrain.sweep.event_log import SweepEventLog, Trial, changed
from bigtrain.sweep.exploit import copy_checkpoint
from bigtrain.sweep.metric import Direction, TrialScore, mean_score
from bigtrain.sweep.results import finalists
from bigtrain.sweep.space import Point
from bigtrain.sweep.sweep import Sweep
from data_pipelines.files import atomic_write, write_json


class TrialScheduler:
    """Decides on the trials of a sweep. One process of a sweep has one; all of its state is in the event log.

    Args:
        sweep: the sweep.
        notify: called with a line of text for the user about each decision.

    Attributes:
        events: the event log of the sweep.
    """

    def __init__(self, sweep: Sweep, notify: Callable[[str], None] = lambda text: None) -> None:
        self.sweep, self._notify = sweep, notify
        rays, total = sweep.config.scheduler.rays, sweep.base.total_kimg
        self._rays = None if rays is None else RayDecisions(rays, total, sweep.space, sweep.trials, sweep.config.seed)
        self.events = SweepEventLog(sweep.folder, (lambda event: None) if self._rays is None else self._rays.on_event)
        self._proposed: set[int] = set()
        # Trials whose ranks have left at the current boundary. A score is reported before the checkpoint is written, so
        # a score at the boundary is not enough: only the checkpoint of a trial in this set may be copied.
        self._at_boundary: set[int] = set()
        for trial in self.trials.values():
            if not trial.ended:
                trial.state = "waiting"  # the process that ran it has ended
        self._apply_newest_generation()
        self._end_stopped()

    @property
    def direction(self) -> Direction:
        """Whether the metric is minimised or maximised; minimised until the first score is known."""
        return self.events.direction

    @property
    def trials(self) -> dict[int, Trial]:
        """All trials, by number."""
        return self.events.trials

    @property
    def searched(self) -> dict[int, Trial]:
        """Trials of the search, without the repetitions of the best ones with other seeds."""
        return {number: trial for number, trial in self.trials.items() if trial.repeats is None}

    def next_trial(self) -> str:
        """Return the path of the next trial's specification; `wait` if there is none yet, `finished` after the last."""
        for number, trial in sorted(self.trials.items()):
            if not trial.ended and number not in self._proposed and self.may_resume(number):
                return self._propose(trial)
        if len(self.searched) < self.sweep.trials and self._add_searched():
            return self.next_trial()
        if not all(trial.ended for trial in self.trials.values()):
            return "wait"
        return self.next_trial() if self._add_finalists() else "finished"

    def on_start(self, number: int, host: str) -> None:
        """Record that a trial is running on a host."""
        trial = self.trials[number]
        if not trial.ended and (trial.state, trial.host) != ("running", host):
            self.events.write("start", number=number, host=host)

    def on_result(self, number: int, scores: Sequence[Mapping[str, Any]], *, at_boundary: bool = False) -> Decision:
        """Record a trial's new scores, and decide whether it goes on.

        Args:
            number: number of the trial.
            scores: the fields of `TrialScore`, and `higher_is_better`, of each new score.
            at_boundary: whether the trial's ranks have left to wait for the other trials (PBT).
        """
        trial = self.trials[number]
        for raw in sorted(scores, key=lambda one: int(one["samples_seen"])):
            if raw["samples_seen"] in trial.scores:
                continue  # a trial that was started again reports all of its scores
            facts = {name: raw[name] for name in ("samples_seen", "value", "error", "img_per_s", "higher_is_better")}
            self.events.write("score", number=number, **facts)
            score = trial.scores[raw["samples_seen"]]
            decision = self._decide(trial, score)
            if decision != "continue":
                return decision
        if at_boundary:
            trial.state = "waiting"
            self._at_boundary.add(number)
            self._close_generation()
            return "pause"
        return "continue"

    def may_resume(self, number: int) -> bool:
        """Return whether a trial need not wait for others."""
        return number not in self._at_boundary and (self._rays is None or self._rays.may_run(number))

    def has_ended(self, number: int) -> bool:
        """Return whether a trial is complete, stopped or failed."""
        return self.trials[number].ended

    def on_end(self, number: int, state: Literal["complete", "stopped", "failed"], why: str = "") -> None:
        """Record that a trial has ended."""
        if not self.trials[number].ended:
            self.events.write("end", number=number, state=state, why=why)
            self._notify(f"{self.trials[number].name} {state}{f': {why}' if why else ''}")
            self._close_generation()  # the others may have waited for this trial alone
            self._end_stopped()

    def _decide(self, trial: Trial, score: TrialScore) -> Decision:
        """Return what becomes of a trial after a score that has been recorded."""
        if self._rays is None or trial.repeats is not None or score.kimg >= self.sweep.base.total_kimg:
            return "continue"
        decision = self._rays.decision(trial.number)
        if decision == "stop":
            self.on_end(trial.number, "stopped", f"Ray Tune's {self._rays.name} stops it at {score.kimg:g} kimg")
        elif decision == "pause":
            trial.state = "waiting"
        self._end_stopped()
        return decision

    def _end_stopped(self) -> None:
        """Record the end of trials that were stopped while they waited for others."""
        for trial in self.searched.values():
            if self._rays is not None and not trial.ended and self._rays.decision(trial.number) == "stop":
                self.on_end(trial.number, "stopped", f"Ray Tune's {self._rays.name} stops it, after it was paused")

    def _add_searched(self) -> bool:
        """Add the next trial of the search, the first of which is the base config; return whether there is one."""
        config, number = self.sweep.config, len(self.searched)
        point: Point | None = {}
        if number:
            base = self.sweep.space.base_point()
            known = {n: replace(t, point={**base, **t.point}) for n, t in self.searched.items()}
            point = config.searcher.point(number, self.sweep.space, known, self.direction, seed=config.seed)
        if point is None:
            return False
        self.events.write("trial", number=number, point=point, seed=config.seed, repeats=None)
        return True

    def _add_finalists(self) -> bool:
        """Add repetitions of the best trials with other seeds, once; return whether any were added."""
        wanted = self.sweep.config.finalists
        if wanted is None or len(self.searched) < len(self.trials):
            return False
        chosen = finalists(self.searched, self.direction, wanted.count)
        for number in chosen:
            for seed in wanted.seeds:
                if seed != self.sweep.config.seed:
                    point = self.trials[number].point
                    self.events.write("trial", number=len(self.trials), point=point, seed=seed, repeats=number)
        if chosen:
            self._notify(f"finalists: {', '.join(self.trials[number].name for number in chosen)}")
        return len(self.searched) < len(self.trials)

    def _propose(self, trial: Trial) -> str:
        """Write a trial's config and its specification; return the path of the specification."""
        self._proposed.add(trial.number)
        sweep, own = self.sweep, self.sweep.config.trial
        config = self._write_config(trial)
        boundary = self._next_boundary(trial)
        spec = {
            "number": trial.number,
            "name": trial.name,
            "folder": str((sweep.folder / trial.name).resolve()),
            "python": sys.executable,
            "cwd": str(Path.cwd()),
            "arguments": [str(config.resolve()), "allow_config_change=true"],
            "config": str(config.resolve()),
            "nproc": own.nproc,
            "metric": sweep.metric.name,
            "samples": sweep.metric.samples(sweep.base),
            "stop_at_kimg": None if boundary is None else boundary / 1000,
            "data": list(sweep.base.data.paths),
            "backend": sweep.config.backend.model_dump(mode="json"),
        }
        path = sweep.folder / f"{trial.name}.json"
        write_json(path, spec)
        return str(path.resolve())

    def _write_config(self, trial: Trial) -> Path:
        path = self.sweep.folder / f"{trial.name}.yaml"
        with atomic_write(path) as file:
            file.write(dump_yaml(self.sweep.training(trial)).encode())
        return path

    # Population-based training: all trials wait at a boundary, where a generation of them ends

    def _next_boundary(self, trial: Trial) -> int | None:
        """Return after how many images a trial waits for the others next; None if it never does."""
        boundaries = self.sweep.config.scheduler.boundaries(self.sweep.base.total_kimg)
        closed = len(self.events.generations)
        return boundaries[closed] if trial.repeats is None and closed < len(boundaries) else None

    def _close_generation(self) -> None:
        """Decide which trials copy which, if all trials have reached the boundary."""
        trials, boundaries = self.searched, self.sweep.config.scheduler.boundaries(self.sweep.base.total_kimg)
        alive = {number: trial for number, trial in trials.items() if trial.state != "failed"}
        index = len(self.events.generations)
        if self._rays is None or index >= len(boundaries) or not alive or len(trials) < self.sweep.trials:
            return
        if not alive.keys() <= self._at_boundary:
            return
        at, before, base = boundaries[index], boundaries[index - 1] if index else 0, self.sweep.space.base_point()
        points: dict[int, Point] = {number: {**base, **trial.point} for number, trial in alive.items()}
        scores = {number: self._standing(trial, before, at) for number, trial in alive.items()}
        standings = {number: (points[number], self.direction.key(score)) for number, score in scores.items()}
        moves: list[dict[str, Any]] = []
        for number, donor, point in self._rays.moves(index, standings):
            after = points[donor] if point is None else point
            changes = changed(points[number], after)
            moves.append({"number": number, "donor": donor, "point": after, "changed": changes})
        self.events.write("generation", index=index, samples_seen=at, standings=standings, moves=moves)
        for move in moves:
            text = ", ".join(f"{key} {old} -> {new}" for key, (old, new) in move["changed"].items())
            self._notify(f"{trials[move['number']].name} continues from {trials[move['donor']].name}: {text}")
        self._at_boundary.clear()
        self._apply_newest_generation()

    def _standing(self, trial: Trial, after: int, at: int) -> TrialScore:
        """Return a trial's score between two boundaries; NaN if it was not evaluated there."""
        own = [trial.scores[place] for place in sorted(trial.scores) if after < place <= at + (at - after) // 2]
        return mean_score(own[-self.sweep.config.scheduler.averaged :]) if own else TrialScore(at, math.nan)

    def _apply_newest_generation(self) -> None:
        """Copy the checkpoints and write the configs of the newest generation, unless that is done."""
        if not self.events.generations:
            return
        newest = self.events.generations[-1]
        applied = self.sweep.folder / "generations" / f"{newest['index']:03}.json"
        if not applied.is_file():
            folder = self.sweep.folder
            # No trial trains now, and no donor is itself replaced in the same generation.
            hashes = {
                move["number"]: copy_checkpoint(
                    folder / self.trials[move["donor"]].name,
                    folder / self.trials[move["number"]].name,
                    newest["samples_seen"],
                )
                for move in newest["moves"]
            }
            applied.parent.mkdir(exist_ok=True)
            write_json(applied, {**newest, "copied": hashes})
        for number in self._proposed:
            if not self.trials[number].ended:
                self._propose(self.trials[number])

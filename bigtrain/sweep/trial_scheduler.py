"""The trial scheduler of a sweep: proposes trials, records their scores, and decides which trials go on."""

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from bigtrain.core.config import dump_yaml
from bigtrain.sweep.event_log import SweepEventLog, Trial, changed, direction_of
from bigtrain.sweep.exploit import copy_checkpoint
from bigtrain.sweep.metric import Direction
from bigtrain.sweep.results import finalists
from bigtrain.sweep.schedulers import PBT
from bigtrain.sweep.space import Point, RandomSuggester
from bigtrain.sweep.sweep import Sweep
from data_pipelines.files import atomic_write, write_json

Decision = Literal["continue", "stop", "pause"]

_TRIES = 100
"""How often PBT draws a point until one satisfies the constraints."""


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
        self.events = SweepEventLog(sweep.folder)
        self._direction = direction_of(sweep.folder)
        self._proposed: set[int] = set()
        # Trials whose ranks have left at the current boundary. A score is reported before the checkpoint is written, so
        # a score at the boundary is not enough: only the checkpoint of a trial in this set may be copied.
        self._at_boundary: set[int] = set()
        for trial in self.trials.values():
            if not trial.ended:
                trial.state = "waiting"  # the process that ran it has ended
        self._apply_newest_generation()

    @property
    def direction(self) -> Direction:
        """Whether the metric is minimised or maximised; minimised until the first score is known."""
        return self._direction or Direction()

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
            if not trial.ended and number not in self._proposed:
                return self._propose(trial)
        if len(self.searched) < self.sweep.config.budget.trials and self._add_searched():
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
            self._direction = Direction(maximize=bool(raw["higher_is_better"]))
            facts = {name: raw[name] for name in ("samples_seen", "value", "error", "img_per_s")}
            self.events.write("score", number=number, higher_is_better=self._direction.maximize, **facts)
            score = trial.scores[raw["samples_seen"]]
            if trial.repeats is None:
                rule, total = self.sweep.config.scheduler, self.sweep.base.total_kimg
                why = rule.reason_to_stop(trial, score, self.searched, self._direction, total)
                if why and score.kimg < total:
                    self.on_end(number, "stopped", why)
                    return "stop"
        if at_boundary:
            trial.state = "waiting"
            self._at_boundary.add(number)
            self._close_generation()
            return "pause"
        return "continue"

    def may_resume(self, number: int) -> bool:
        """Return whether a trial that is paused at a boundary may go on."""
        trial = self.trials[number]
        boundary = self._next_boundary(trial)
        return boundary is None or trial.last is None or trial.last.samples_seen < boundary

    def on_end(self, number: int, state: Literal["complete", "stopped", "failed"], why: str = "") -> None:
        """Record that a trial has ended."""
        if not self.trials[number].ended:
            self.events.write("end", number=number, state=state, why=why)
            self._notify(f"{self.trials[number].name} {state}{f': {why}' if why else ''}")
            self._close_generation()  # the others may have waited for this trial alone

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

    # Population-based training: generations

    def _next_boundary(self, trial: Trial) -> int | None:
        """Return after how many images a trial waits for the others next; None if it never does."""
        scheduler = self.sweep.config.scheduler
        if not isinstance(scheduler, PBT) or trial.repeats is not None:
            return None
        boundaries = scheduler.boundaries(self.sweep.base.total_kimg)
        closed = len(self.events.generations)
        return boundaries[closed] if closed < len(boundaries) else None

    def _close_generation(self) -> None:
        """Decide which trials copy which, if all trials have reached the boundary."""
        scheduler, trials = self.sweep.config.scheduler, self.searched
        if not isinstance(scheduler, PBT):
            return
        alive = {number: trial for number, trial in trials.items() if trial.state != "failed"}
        boundary = self._next_boundary(next(iter(trials.values())))
        if boundary is None or not alive or len(trials) < self.sweep.config.budget.trials:
            return
        if not alive.keys() <= self._at_boundary:
            return
        index = len(self.events.generations)
        before = scheduler.boundaries(self.sweep.base.total_kimg)[index - 1] if index else 0
        scores = {one: scheduler.stretch_score(trial, before, boundary) for one, trial in alive.items()}
        generator = random.Random(f"{self.sweep.config.seed}/generation {index}")  # noqa: S311 - no secrets
        exploits = scheduler.exploits(scores, self.direction, [generator.random() for _ in alive])
        moves = [self._explore(scheduler, loser, donor, generator) for loser, donor in exploits.items()]
        self.events.write("generation", index=index, samples_seen=boundary, moves=moves)
        for move in moves:
            changes = ", ".join(f"{key} {old} -> {new}" for key, (old, new) in move["changed"].items())
            self._notify(f"{alive[move['number']].name} continues from {alive[move['donor']].name}: {changes}")
        self._at_boundary.clear()
        self._apply_newest_generation()

    def _explore(self, scheduler: PBT, loser: int, donor: int, generator: random.Random) -> dict[str, Any]:
        """Return the new point of a trial that goes on from the state of another: near to that trial's point."""
        space, base = self.sweep.space, self.sweep.space.base_point()
        donors: Point = {**base, **self.trials[donor].point}
        point = dict(donors)
        for _ in range(_TRIES):
            point = {}
            for key, parameter in space.parameters.items():
                known = {**space.base_values, **donors, **point}
                if not parameter.applies(known):
                    continue
                if key not in donors or generator.random() < scheduler.resample:
                    point[key] = parameter.suggest(key, RandomSuggester(generator), known)
                else:
                    point[key] = parameter.perturb(donors[key], generator.choice(scheduler.factors), known)
            if space.allows(point):
                break
        losers = {**base, **self.trials[loser].point}
        return {"number": loser, "donor": donor, "point": point, "changed": changed(losers, point)}

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

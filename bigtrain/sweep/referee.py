"""The referee of a sweep: says which trial is next, listens to scores, says who goes on, and journals all of it."""

import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from bigtrain.core.config import dump_yaml
from bigtrain.sweep.exploit import copy_checkpoint
from bigtrain.sweep.journal import Journal, Trial, changed, read_events
from bigtrain.sweep.metric import Order
from bigtrain.sweep.results import finalists
from bigtrain.sweep.schedulers import PBT
from bigtrain.sweep.space import Chance, Point
from bigtrain.sweep.sweep import Sweep
from data_pipelines.files import atomic_write, write_json

Verdict = Literal["go", "stop", "pause"]

_TRIES = 100


class Referee:
    """Decides. One process of a sweep has one; nothing is in its memory alone.

    Args:
        sweep: what is decided about.
        say: tells a person.

    Attributes:
        journal: of the sweep.
    """

    def __init__(self, sweep: Sweep, say: Callable[[str], None] = lambda text: None) -> None:
        self.sweep, self._say = sweep, say
        self.journal = Journal(sweep.folder)
        self._order = _order_of(sweep.folder)
        self._handed_out: set[int] = set()
        self._at_rest: set[int] = set()  # a score comes before the checkpoint: only who has stopped may be copied
        for trial in self.trials.values():
            if not trial.ended:
                trial.state = "waiting"  # whoever ran it is gone
        self._apply_generations()

    @property
    def order(self) -> Order:
        """Which score is better."""
        return self._order or Order()

    @property
    def trials(self) -> dict[int, Trial]:
        """All trials by number."""
        return self.journal.trials

    @property
    def searched(self) -> dict[int, Trial]:
        """Those of the search."""
        return {number: trial for number, trial in self.trials.items() if trial.repeats is None}

    def next_trial(self) -> str:
        """Return the file that tells how to run the next trial; `wait` if there is none yet, `over` if no more."""
        for number, trial in sorted(self.trials.items()):
            if not trial.ended and number not in self._handed_out:
                return self._hand_out(trial)
        if len(self.searched) < self.sweep.config.budget.trials and self._add_searched():
            return self.next_trial()
        if not all(trial.ended for trial in self.trials.values()):
            return "wait"
        return self.next_trial() if self._add_finalists() else "over"

    def hear(self, number: int, scores: Sequence[Mapping[str, Any]], *, at_boundary: bool = False) -> Verdict:
        """Take note of a trial's new scores, and decide.

        Args:
            number: of the trial.
            scores: of each, what `Scored` has, and `higher_is_better`.
            at_boundary: whether the trial has stopped to wait for the others.
        """
        trial = self.trials[number]
        for raw in sorted(scores, key=lambda one: int(one["samples_seen"])):
            if raw["samples_seen"] in trial.scores:
                continue  # a trial that was started again tells all it has
            self._order = Order(higher=bool(raw["higher_is_better"]))
            facts = {name: raw[name] for name in ("samples_seen", "value", "error", "img_per_s")}
            self.journal.write("score", number=number, higher_is_better=self._order.higher, **facts)
            scored = trial.scores[raw["samples_seen"]]
            if trial.repeats is None:
                why = self.sweep.config.scheduler.objection(trial, scored, self.searched, self._order)
                if why and scored.samples_seen < 1000 * self.sweep.base.total_kimg:
                    self.end(number, "stopped", why)
                    return "stop"
        if at_boundary:
            trial.state = "waiting"
            self._at_rest.add(number)
            self._close_generation()
            return "pause"
        return "go"

    def may_run(self, number: int) -> bool:
        """Tell whether a trial that has come to a boundary may go on."""
        trial = self.trials[number]
        at = self._boundary(trial)
        return at is None or trial.last is None or trial.last.samples_seen < at

    def end(self, number: int, state: Literal["complete", "stopped", "failed"], why: str = "") -> None:
        """Take note that a trial has ended."""
        if not self.trials[number].ended:
            self.journal.write("end", number=number, state=state, why=why)
            self._say(f"{self.trials[number].name} {state}{f': {why}' if why else ''}")
            self._close_generation()  # nobody waits for it any more

    def started(self, number: int, host: str) -> None:
        """Take note that a trial runs, and where."""
        trial = self.trials[number]
        if not trial.ended and (trial.state, trial.host) != ("running", host):
            self.journal.write("start", number=number, host=host)

    def _add_searched(self) -> bool:
        """Add the next trial of the search; the first is the base config's."""
        config, number = self.sweep.config, len(self.searched)
        point: Point | None = {}
        if number:
            base = self.sweep.space.base_point()
            known = {n: replace(t, point={**base, **t.point}) for n, t in self.searched.items()}
            point = config.searcher.point(number, self.sweep.space, known, self.order, seed=config.seed)
        if point is None:
            return False
        self.journal.write("trial", number=number, point=point, seed=config.seed, repeats=None)
        return True

    def _add_finalists(self) -> bool:
        """Add the best settings with other seeds, once."""
        wanted = self.sweep.config.finalists
        if wanted is None or len(self.searched) < len(self.trials):
            return False
        chosen = finalists(self.searched, self.order, wanted.count)
        for number in chosen:
            for seed in wanted.seeds:
                if seed != self.sweep.config.seed:
                    point = self.trials[number].point
                    self.journal.write("trial", number=len(self.trials), point=point, seed=seed, repeats=number)
        if chosen:
            self._say(f"finalists: {', '.join(self.trials[number].name for number in chosen)}")
        return len(self.searched) < len(self.trials)

    def _hand_out(self, trial: Trial) -> str:
        """Write a trial's config, and how to run it."""
        self._handed_out.add(trial.number)
        sweep, own = self.sweep, self.sweep.config.trial
        config = self._write_config(trial)
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
            "stop_at_kimg": _kimg(self._boundary(trial)),
            "data": sweep.base.data.path,
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

    # PBT

    def _boundary(self, trial: Trial) -> int | None:
        """Return where a trial waits for the others next."""
        scheduler = self.sweep.config.scheduler
        if not isinstance(scheduler, PBT) or trial.repeats is not None:
            return None
        places = scheduler.boundaries(self.sweep.base.total_kimg)
        done = len(self.journal.generations)
        return places[done] if done < len(places) else None

    def _close_generation(self) -> None:
        """Let the worst copy the best, if all have come to the boundary."""
        scheduler, trials = self.sweep.config.scheduler, self.searched
        if not isinstance(scheduler, PBT):
            return
        alive = {number: trial for number, trial in trials.items() if trial.state != "failed"}
        at = self._boundary(next(iter(trials.values())))
        if at is None or not alive or len(trials) < self.sweep.config.budget.trials:
            return
        if not alive.keys() <= self._at_rest:
            return
        number = len(self.journal.generations)
        before = scheduler.boundaries(self.sweep.base.total_kimg)[number - 1] if number else 0
        standings = {one: scheduler.standing(trial, before, at) for one, trial in alive.items()}
        chance = random.Random(f"{self.sweep.config.seed}/generation {number}")  # noqa: S311 - chance, not secrets
        exploits = scheduler.exploits(standings, self.order, [chance.random() for _ in alive])
        moves = [self._move(scheduler, loser, donor, chance) for loser, donor in exploits.items()]
        self.journal.write("generation", index=number, samples_seen=at, moves=moves)
        for move in moves:
            told = ", ".join(f"{key} {old} -> {new}" for key, (old, new) in move["changed"].items())
            self._say(f"{alive[move['number']].name} goes on from {alive[move['donor']].name}: {told}")
        self._at_rest.clear()
        self._apply_generations()

    def _move(self, scheduler: PBT, loser: int, donor: int, chance: random.Random) -> dict[str, Any]:
        """Return how a trial goes on from another one's state, with numbers near to that one's."""
        space, base = self.sweep.space, self.sweep.space.base_point()
        theirs: Point = {**base, **self.trials[donor].point}
        point = dict(theirs)
        for _ in range(_TRIES):
            point = {}
            for key, parameter in space.parameters.items():
                known = {**space.base_values, **theirs, **point}
                if not parameter.applies(known):
                    continue
                if key not in theirs or chance.random() < scheduler.resample:
                    point[key] = parameter.pick(key, Chance(chance), known)
                else:
                    point[key] = parameter.move(theirs[key], chance.choice(scheduler.factors), known)
            if space.allows(point):
                break
        mine = {**base, **self.trials[loser].point}
        return {"number": loser, "donor": donor, "point": point, "changed": changed(mine, point)}

    def _apply_generations(self) -> None:
        """Make the newest generation true on disk; harmless where it is already."""
        if not self.journal.generations:
            return
        newest = self.journal.generations[-1]
        applied = self.sweep.folder / "generations" / f"{newest['index']:03}.json"
        if not applied.is_file():
            folder = self.sweep.folder
            # Donors are at rest, as all are: none of them is itself a copy in this generation.
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
        for number in self._handed_out:
            if not self.trials[number].ended:
                self._hand_out(self.trials[number])


def _order_of(folder: Path) -> Order | None:
    for event in read_events(folder):
        if event["event"] == "score":
            return Order(higher=event["higher_is_better"])
    return None


def _kimg(samples_seen: int | None) -> float | None:
    return None if samples_seen is None else samples_seen / 1000


def read_generation(folder: Path, index: int) -> dict[str, Any]:
    """Return what a generation did, hashes of the copied checkpoints included."""
    document: dict[str, Any] = json.loads((folder / "generations" / f"{index:03}.json").read_text())
    return document

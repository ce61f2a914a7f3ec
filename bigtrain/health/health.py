"""State of all health monitors: the level of each symptom, since when, and whether training must be stopped."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from bigtrain.core.config import Config
from bigtrain.core.logging import log
from bigtrain.core.state import Progress, State
from bigtrain.health.balance import DiscriminatorWins, GeneratorWins, Oscillation
from bigtrain.health.diversity import ModeCollapse
from bigtrain.health.memorisation import Duplicates, Memorisation
from bigtrain.health.monitor import Level, Monitor, Readings
from bigtrain.health.networks import DeadUnits, WeightGrowth
from bigtrain.health.overfitting import DiscriminatorOverfits
from bigtrain.health.stability import Divergence, LearningStopped, NotFinite, Starvation

MONITORS: tuple[type[Monitor], ...] = (
    DiscriminatorWins,
    GeneratorWins,
    Oscillation,
    Divergence,
    LearningStopped,
    NotFinite,
    DiscriminatorOverfits,
    ModeCollapse,
    Memorisation,
    Duplicates,
    DeadUnits,
    WeightGrowth,
    Starvation,
)
"""Every monitor; a new one is a class and one name here."""


class HealthConfig(Config):
    """What the health monitors look at, and what happens when training collapses.

    Attributes:
        on_collapse: what happens when training collapses: `report` it, `stop`, or `rollback` to the last healthy
            checkpoint.
        max_rollbacks: number of rollbacks after which the run stops instead.
        lr_factor: factor on the learning rates at each rollback.
        max_skipped: number of consecutive steps without finite gradients that count as a collapse; the run then stops
            even with `report`. They are counted when metrics are logged.
        held_out: share of the images that are not trained on: the last ones of each shard.
        features_kimg: thousands of images between two inspections of the features of fakes; null for each evaluation.
        images: number of fakes, of held-out and of training images that are inspected.
        neighbours: number of training images that fakes are compared with.
    """

    on_collapse: Literal["report", "stop", "rollback"] = "report"
    max_rollbacks: PositiveInt = 3
    lr_factor: Annotated[float, Field(gt=0, le=1)] = 0.5
    max_skipped: PositiveInt = 10
    held_out: Annotated[float, Field(ge=0, le=0.5)] = 0.01
    features_kimg: NonNegativeFloat | None = None
    images: PositiveInt = 128
    neighbours: PositiveInt = 1000


@dataclass
class SymptomState:
    """The state of one symptom.

    Attributes:
        level: current level; None until there are enough readings.
        evidence: the numbers that say so.
        first_seen_kimg: when it was first not well.
        since_kimg: since when the level is what it is.
        history: of the monitor's readings.
    """

    level: Level | None = None
    evidence: str = "not enough readings yet"
    first_seen_kimg: float | None = None
    since_kimg: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class Health:
    """Passes readings to every monitor and keeps the level of each symptom. The same on every rank.

    Args:
        config: what calls for action.
        event: called with (symptom, line of text) when a symptom changes its level.
        monitors: to ask.
    """

    def __init__(
        self,
        config: HealthConfig,
        event: Callable[[str, str], None],
        monitors: Sequence[type[Monitor]] = MONITORS,
    ) -> None:
        self._config, self._event = config, event
        self._monitors = [monitor() for monitor in monitors]
        self._states: dict[str, SymptomState] = {}
        self._skipped: dict[str, int] = {}

    def observe(self, readings: Readings, progress: Progress) -> dict[str, float]:
        """Assess every symptom whose readings are given.

        Args:
            readings: by name; equal on all ranks.
            progress: where the run is.

        Returns:
            `health/<symptom>` for each judged symptom, `health/<symptom>/<part>` where there are several parts:
            0 is well, 1 a warning, 2 critical.
        """
        levels: dict[str, float] = {}
        for monitor in self._monitors:
            for part, selected in monitor.select(readings).items():
                name = f"{monitor.symptom}/{part}" if part else monitor.symptom
                symptom = self._states.setdefault(name, SymptomState())
                symptom.history = [*symptom.history, selected][-monitor.window :]
                if len(symptom.history) >= monitor.least:
                    self._note(name, monitor, symptom, progress)
                    levels[f"health/{name}"] = float(symptom.level or 0)
        return levels

    def count_step(self, phase: str, *, skipped: bool) -> None:
        """Count each phase's steps in a row that were skipped because a gradient was not finite."""
        self._skipped[phase] = self._skipped.get(phase, 0) + 1 if skipped else 0

    @property
    def at_standstill(self) -> bool:
        """Whether so many steps in a row were skipped that going on is pointless."""
        return max(self._skipped.values(), default=0) >= self._config.max_skipped

    @property
    def collapse(self) -> str | None:
        """What training cannot recover from by itself, in words; None if there is no such thing."""
        if self.at_standstill:
            return f"not_finite: {max(self._skipped.values())} steps in a row without finite gradients"
        critical = ((name, one.evidence) for name, one in self._of_collapses() if one.level == Level.CRITICAL)
        return next((f"{name}: {evidence}" for name, evidence in critical), None)

    @property
    def healthy(self) -> bool:
        """Whether this is a state to come back to: no sign of anything that could become a collapse."""
        return not any(self._skipped.values()) and not any(symptom.level for _, symptom in self._of_collapses())

    def report(self) -> list[dict[str, Any]]:
        """Return a line on each symptom, for `bigtrain health`."""
        return [
            {
                "symptom": name,
                "state": "unknown" if symptom.level is None else symptom.level.name.lower(),
                "first_seen_kimg": symptom.first_seen_kimg,
                "since_kimg": symptom.since_kimg,
                "evidence": symptom.evidence,
                "advice": monitor.advice,
            }
            for monitor in self._monitors
            for name, symptom in self._of(monitor) or [(monitor.symptom, SymptomState())]
        ]

    def state_dict(self) -> State:
        """See Stateful."""
        charts = {
            name: {**asdict(symptom), "level": None if symptom.level is None else int(symptom.level)}
            for name, symptom in self._states.items()
        }
        return {"skipped": dict(self._skipped), "charts": charts}

    def load_state_dict(self, state: State) -> None:
        """See Stateful."""
        self._skipped = dict(state["skipped"])
        for name, symptom in state["charts"].items():
            level = None if symptom["level"] is None else Level(symptom["level"])
            self._states[name] = SymptomState(**{**symptom, "level": level})

    def _of(self, monitor: Monitor) -> list[tuple[str, SymptomState]]:
        """Return the states of a monitor's symptom by their names, one for each network or output."""
        return [(name, one) for name, one in self._states.items() if name.partition("/")[0] == monitor.symptom]

    def _of_collapses(self) -> Iterator[tuple[str, SymptomState]]:
        return (found for monitor in self._monitors if monitor.collapse for found in self._of(monitor))

    def _note(self, name: str, monitor: Monitor, symptom: SymptomState, progress: Progress) -> None:
        """Assess a symptom, and log it if its level changed."""
        before = symptom.level or Level.OK
        finding = monitor.assess(symptom.history)
        symptom.level, symptom.evidence = finding
        if finding.level == before:
            return
        symptom.since_kimg = progress.kimg
        if symptom.first_seen_kimg is None:
            symptom.first_seen_kimg = progress.kimg
        advice = f"; what usually helps: {monitor.advice}" if finding.level else ""
        line = f"{before.name.lower()} -> {finding.level.name.lower()}: {finding.evidence}{advice}"
        log.info("kimg %-7.1f health: %s %s", progress.kimg, name, line)
        self._event(name, line)

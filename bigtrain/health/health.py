"""The patient's chart: what each monitor says, since when, and what that calls for."""

from collections.abc import Callable, Sequence
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
    """What the doctor looks at, and what happens when training collapses.

    Attributes:
        on_collapse: `report` it, `stop`, or `rollback` to the last healthy checkpoint.
        max_rollbacks: after so many the run stops.
        lr_factor: multiplies the learning rates at each rollback.
        max_skipped: steps in a row without finite gradients that are a collapse; the run stops even if others are
            only reported. They are counted when metrics are logged.
        held_out: share of the images of each shard, its last ones, that are not trained on.
        features_kimg: thousands of images between two looks at features of fakes; null for each evaluation.
        images: fakes, held-out and training images that are looked at.
        neighbours: training images that fakes are compared with.
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
class Chart:
    """What is known of one symptom.

    Attributes:
        level: now; None until it could be judged.
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
    """Lets every monitor judge the readings, and remembers what it said. The same on every rank.

    Args:
        config: what calls for action.
        event: told (symptom, line of text) when a symptom changes its level.
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
        self._charts = {monitor.symptom: Chart() for monitor in self._monitors}
        self._skipped: dict[str, int] = {}

    def observe(self, readings: Readings, progress: Progress) -> dict[str, float]:
        """Judge what these readings allow to judge.

        Args:
            readings: by name; equal on all ranks.
            progress: where the run is.

        Returns:
            `health/<symptom>` for each judged symptom: 0 is well, 1 a warning, 2 critical.
        """
        levels: dict[str, float] = {}
        for monitor in self._monitors:
            chart, selected = self._charts[monitor.symptom], monitor.select(readings)
            if not selected:
                continue
            chart.history = [*chart.history, selected][-monitor.window :]
            if len(chart.history) >= monitor.least:
                self._note(monitor, chart, progress)
                levels[f"health/{monitor.symptom}"] = float(chart.level or 0)
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
        for monitor in self._monitors:
            if monitor.collapse and self._charts[monitor.symptom].level == Level.CRITICAL:
                return f"{monitor.symptom}: {self._charts[monitor.symptom].evidence}"
        return None

    @property
    def healthy(self) -> bool:
        """Whether this is a state to come back to: no sign of anything that could become a collapse."""
        levels = [self._charts[monitor.symptom].level for monitor in self._monitors if monitor.collapse]
        return not any(self._skipped.values()) and not any(levels)

    def report(self) -> list[dict[str, Any]]:
        """Return a line on each symptom, for `bigtrain health`."""
        return [
            {
                "symptom": monitor.symptom,
                "state": "unknown" if chart.level is None else chart.level.name.lower(),
                "first_seen_kimg": chart.first_seen_kimg,
                "since_kimg": chart.since_kimg,
                "evidence": chart.evidence,
                "advice": monitor.advice,
            }
            for monitor, chart in ((monitor, self._charts[monitor.symptom]) for monitor in self._monitors)
        ]

    def state_dict(self) -> State:
        """See Stateful."""
        charts = {
            name: {**asdict(chart), "level": None if chart.level is None else int(chart.level)}
            for name, chart in self._charts.items()
        }
        return {"skipped": dict(self._skipped), "charts": charts}

    def load_state_dict(self, state: State) -> None:
        """See Stateful."""
        self._skipped = dict(state["skipped"])
        for name, chart in state["charts"].items():
            level = None if chart["level"] is None else Level(chart["level"])
            self._charts[name] = Chart(**{**chart, "level": level})

    def _note(self, monitor: Monitor, chart: Chart, progress: Progress) -> None:
        """Ask a monitor, and say so where its answer is another than before."""
        before = chart.level or Level.OK
        finding = monitor.judge(chart.history)
        chart.level, chart.evidence = finding
        if finding.level == before:
            return
        chart.since_kimg = progress.kimg
        if chart.first_seen_kimg is None:
            chart.first_seen_kimg = progress.kimg
        advice = f"; what usually helps: {monitor.advice}" if finding.level else ""
        line = f"{before.name.lower()} -> {finding.level.name.lower()}: {finding.evidence}{advice}"
        log.info("kimg %-7.1f health: %s %s", progress.kimg, monitor.symptom, line)
        self._event(monitor.symptom, line)

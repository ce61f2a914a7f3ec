"""The evaluations of a run: which are due, their scores, and the best."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bigtrain.core.logging import log
from bigtrain.core.state import Progress, State
from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.best import Best
from bigtrain.evaluation.errors import ImagesError, Interrupted
from bigtrain.evaluation.evaluator import EvalConfig, FullEvalConfig
from bigtrain.evaluation.extraction import Stop
from bigtrain.evaluation.outputs import MakeOutputs, OutputEvaluators, ScoredOutput
from bigtrain.evaluation.protocol import Sampling, Score, as_json
from bigtrain.evaluation.schedule import EvalSchedule
from data_pipelines.faults import FaultLog

_PROGRESS, _FULL = "progress", "full"


class Evaluations:
    """A cheap evaluation often and, where it is asked for, a full one seldom, within one budget of time.

    Args:
        config: which, how often.
        outputs: what is scored, and what it is compared with.
        ranks: who shares the work.
        seed: of latents and labels.
        quarantine: file that lists damaged reference images.

    Attributes:
        best: the best progress score so far.
        latest: the scores of the last evaluation.
    """

    def __init__(
        self,
        config: EvalConfig,
        outputs: Sequence[ScoredOutput],
        ranks: Ranks,
        *,
        seed: int,
        quarantine: Path,
    ) -> None:
        self._seed, faults = seed, FaultLog(quarantine)
        wanted: dict[str, EvalConfig | FullEvalConfig] = {
            _PROGRESS: config,
            **({_FULL: config.full} if config.full else {}),
        }
        intervals = {kind: one.interval_kimg for kind, one in wanted.items() if one.interval_kimg}
        self._evaluators = {kind: OutputEvaluators(wanted[kind], outputs, ranks, faults=faults) for kind in intervals}
        self._schedule = EvalSchedule(intervals, config.max_share)
        self.best = Best(config.best)
        self.latest: dict[str, Score] = {}
        self._latest_at = 0

    def due(self, progress: Progress) -> Sequence[str]:
        """Return the kinds of evaluation that are due after the step just taken. Collective."""
        return self._schedule.due(progress)

    @property
    def unfinished(self) -> Sequence[str]:
        """The kinds that a stop broke off at this place of the run."""
        return self._schedule.unfinished

    def run(
        self, kinds: Sequence[str], make: MakeOutputs, progress: Progress, *, stop: Stop
    ) -> tuple[dict[str, Score], bool]:
        """Score the averaged networks, as far as nobody asks to stop. Collective.

        Args:
            kinds: of evaluation.
            make: makes outputs of the averaged networks.
            progress: where the run is.
            stop: tells whether this process was asked to stop.

        Returns:
            The scores, and whether there is a best one among them.
        """
        scores: dict[str, Score] = {}
        better = False
        self._schedule.begin(kinds)
        try:
            for kind in kinds:
                with self._schedule.account(kind):
                    found = self._scores_of(kind, make, progress, stop)
                scores |= found
                better = better or (kind == _PROGRESS and bool(found) and self.best.update(found, progress))
        except Interrupted:
            pass  # what is left is done when the run goes on
        self.latest, self._latest_at = scores, progress.samples_seen
        return scores, better

    def _scores_of(self, kind: str, make: MakeOutputs, progress: Progress, stop: Stop) -> dict[str, Score]:
        """Return scores, or none of a generator that makes no images; health monitors decide whether to go on."""
        try:
            return self._evaluators[kind].run(make, Sampling(), seed=self._seed, stop=stop)
        except ImagesError as error:
            log.warning("kimg %.1f: no scores: %s", progress.kimg, error)
            return {}

    def replaced(self) -> int:
        """Damaged reference images that others stand in for. Collective."""
        return sum(evaluator.replaced for evaluator in self._evaluators.values())

    def scores_at(self, progress: Progress) -> Mapping[str, Score]:
        """Return the scores of the averaged generator as it is now, as far as it was scored."""
        return self.latest if self._latest_at == progress.samples_seen else {}

    def state_dict(self) -> State:
        """See Stateful."""
        return {
            "schedule": self._schedule.state_dict(),
            "best": self.best.state_dict(),
            "latest": as_json(self.latest),
            "latest_at": self._latest_at,
        }

    def load_state_dict(self, state: State) -> None:
        """See Stateful."""
        self._schedule.load_state_dict(state["schedule"])
        self.best.load_state_dict(state["best"])
        self.latest = {name: Score.from_json(score) for name, score in state["latest"].items()}
        self._latest_at = state["latest_at"]

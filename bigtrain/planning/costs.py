"""What the phases of a running training compute and hold, counted beside it.

Nothing that observes a step may change its bits (decision 43). So the operators of a real step are not watched: a phase
is counted once on tensors without content, as a plan is, on rank 0 alone, for all ranks compute the same.
"""

from bigtrain.config import TrainingConfig
from bigtrain.core.config import ConfigError
from bigtrain.core.logging import log
from bigtrain.core.state import Progress
from bigtrain.engine.player import Phase
from bigtrain.planning.counting import FakeRun, kind_of
from bigtrain.run.usage import Cost

_UNKNOWN = Cost(0, 0)


class PhaseCosts:
    """Counts each kind of phase of a run at its first occurrence: its name, the terms that are due, the growth.

    Args:
        config: of the run, with a number for `micro_batch`.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self._run: FakeRun | None = None
        self._known: dict[tuple[object, ...], Cost] = {}
        self._gave_up = False

    def __call__(self, phase: Phase, progress: Progress) -> Cost:
        """Return what one micro-batch costs; zeros if the networks do not run on tensors without content."""
        if self._gave_up:
            return _UNKNOWN
        try:
            return self._count(phase, progress)
        except (ConfigError, RuntimeError, TypeError) as error:
            self._gave_up = True
            log.warning("compute/ and memory/activations_mib are not counted: %s", str(error).partition("\n")[0])
            return _UNKNOWN

    def _count(self, phase: Phase, progress: Progress) -> Cost:
        self._run = self._run or FakeRun(self._config)
        kind = (*kind_of(phase), *self._run.grow_to(progress))
        if kind not in self._known:
            work = self._run.work(phase, self._config.micro_batch_size)
            self._known[kind] = Cost(int(work.flops.sum()), int(work.activations))
        return self._known[kind]

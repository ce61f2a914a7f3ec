"""What `deterministic: true` costs, as far as a plan can tell.

Three kinds of operators compute otherwise. Where bigtrain has another form itself, as of ADA's warp, its operators are
counted like any others, and their time is known as well as that of the rest. Where PyTorch or cuDNN have another
algorithm, its time is not known without a GPU: how much of a step they are bounds it. Where there is none, the run is
refused at its first step.
"""

from dataclasses import dataclass

import numpy as np

from bigtrain.distributed.determinism import NOT_REPEATABLE
from bigtrain.planning.hardware import Cluster
from bigtrain.planning.hazards import Hazard
from bigtrain.planning.planner import Planner
from bigtrain.planning.step import Setup, operator_seconds

_CONVOLUTIONS = frozenset({"aten.convolution", "aten.convolution_backward"})
_OTHERWISE = frozenset(
    f"aten.{name}"
    for name in (
        *("index_add", "index_add_", "scatter_add", "scatter_add_", "embedding_dense_backward"),
        *("upsample_linear1d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward"),
    )
)
"""Operators that PyTorch computes otherwise where bits must repeat: it sorts, or adds up in order."""


@dataclass(frozen=True)
class Determinism:
    """A step of a run whose bits repeat, beside one of the same run whose bits need not.

    Attributes:
        operators: more that a rank launches in a mean step.
        seconds: more that they take.
        share: these seconds, as a part of the step without them.
        convolutions: of a mean step, which take cuDNN's deterministic algorithms, chosen without trying out.
        convolution_share: of the operators' time.
        others: PyTorch's other operators with another algorithm, in a mean step.
        other_share: of the operators' time.
        refused: operators without an algorithm whose bits repeat.
    """

    operators: float
    seconds: float
    share: float
    convolutions: float
    convolution_share: float
    others: float
    other_share: float
    refused: tuple[str, ...]

    def in_words(self) -> str:
        """Return the figures in a line."""
        timed = f"{self.seconds:.4f} s ({self.share:.1%}) more per step for {self.operators:,.0f} more operators"
        if not self.operators:
            timed = "no other operators"
        untimed = f"{self.convolutions:,.0f} convolutions ({self.convolution_share:.0%} of the time)"
        if self.others:
            untimed += f" and {self.others:,.0f} sums by index ({self.other_share:.0%})"
        slower = (self.convolution_share + self.other_share) / 10
        return (
            f"{timed}; {untimed} take algorithms whose time can only be measured on a GPU: if these are 10% slower, "
            f"a step is {slower:.1%} longer"
        )

    def hazards(self) -> list[Hazard]:
        """Return that the run would be refused, if it would."""
        if not self.refused:
            return []
        what = f"deterministic: PyTorch has no deterministic algorithm for {', '.join(self.refused)}"
        return [Hazard(what, "deterministic=false, or a network without this operation")]


def cost_of_determinism(planner: Planner, setup: Setup, cluster: Cluster, step: float) -> Determinism | None:
    """Return what a run's `deterministic` costs; None if it does not ask for that.

    Args:
        planner: of the run.
        setup: that is planned.
        cluster: where.
        step: seconds of a step.
    """
    config = planner.config
    if not config.deterministic:
        return None
    usual = Planner(config.model_copy(update={"deterministic": False}), cluster.world_size)
    before = usual.at(setup.micro_batch, setup.micro_batch * setup.accumulation)
    more = _totals(setup, cluster, frozenset())[1] - _totals(before, cluster, frozenset())[1]
    seconds = _seconds(setup, cluster) - _seconds(before, cluster)
    convolutions, _, convolution_share = _totals(setup, cluster, _CONVOLUTIONS)
    others, _, other_share = _totals(setup, cluster, _OTHERWISE)
    found = {name for work in setup.works.values() for name in work.names}
    return Determinism(
        operators=more,
        seconds=seconds,
        share=seconds / (step - seconds),
        convolutions=convolutions,
        convolution_share=convolution_share,
        others=others,
        other_share=other_share,
        refused=tuple(sorted(found & NOT_REPEATABLE)),
    )


def _seconds(setup: Setup, cluster: Cluster) -> float:
    """Return the time of a mean step's operators."""
    once = sum(
        often * float(operator_seconds(setup.works[kind], setup, cluster).sum()) for kind, often in setup.often.items()
    )
    return once * setup.accumulation


def _totals(setup: Setup, cluster: Cluster, names: frozenset[str]) -> tuple[float, float, float]:
    """Return how many operators of these names a mean step has, how many in all, and the named ones' share of time."""
    named = operators = time = 0.0
    for kind, often in setup.often.items():
        work = setup.works[kind]
        mask = np.array([name in names for name in work.names], dtype=bool)
        named += often * setup.accumulation * float(mask.sum())
        operators += often * setup.accumulation * len(mask)
        time += often * setup.accumulation * float(operator_seconds(work, setup, cluster)[mask].sum())
    return named, operators, time / _seconds(setup, cluster)

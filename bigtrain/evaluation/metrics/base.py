"""What a metric is: the statistic that it reads of which features, and a function from two of them to scores."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor

from bigtrain.evaluation.statistics import Collector, Statistic

Scores = dict[str, float]


class Need(NamedTuple):
    """What is collected of a set of images.

    Attributes:
        layer: of the extractor, see `Extractor.layers`.
        collector: makes the statistic.
    """

    layer: str
    collector: type[Collector[Statistic]]


@dataclass(frozen=True)
class Metric:
    """A score of images, in the feature space of an extractor.

    Attributes:
        need: what it reads of the generated images, and of the reference.
        score: maps the statistics of reference and generated images to values by name. Collective: all ranks hold the
            same statistics, call it together, and get the same values.
        least: images that either side must have.
        with_fewer: what a user can do who has fewer; empty for nothing.
        most: images that either side may have; None for no limit.
        better: which values are good.
        contrary: names among `values` for which it is the other way round.
        settings: what else its values depend on, in words (`100 subsets of 1000`); part of a score's protocol.
        influence: maps the statistics of both and features of some generated images [N, F] to how each of these moves
            the value that bears the metric's name, see `evaluation.noise`; None for a score without an interval.
        own_error: maps the values to the standard error that the metric's own chance adds to that of the images.
        values: names of its values, where they are not its own name.
        lowest: value that it cannot be below.
        is_distance: whether it is 0 of a set and itself.
        by_class: whether it needs to know the images' classes; values are then named `…_NUMBER_` by their class.
        compares: whether it reads the reference; the Inception Score does not, and `score` then gets None.
    """

    need: Need
    score: Callable[[Any, Any], Scores]
    least: int = 2
    with_fewer: str = ""
    most: int | None = None
    lowest: float = -math.inf
    is_distance: bool = False
    by_class: bool = False
    better: Literal["lower", "higher"] = "lower"
    contrary: tuple[str, ...] = ()
    compares: bool = True
    settings: str = ""
    values: tuple[str, ...] = ()
    influence: Callable[[Any, Any, Tensor], Tensor] | None = None
    own_error: Callable[[Scores], float] = lambda scores: 0.0

    def higher_is_better(self, value: str) -> bool:
        """Tell whether more is better of one of its values."""
        return (self.better == "higher") != (value in self.contrary)

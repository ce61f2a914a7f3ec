"""Scores of one generator with several seeds, as one score."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from bigtrain.evaluation.noise import Interval
from bigtrain.evaluation.protocol import Score


def over_seeds(found: Sequence[Mapping[str, Score]]) -> dict[str, Score]:
    """Return the means of scores over seeds, which are independent: their standard errors shrink by the square root.

    Intervals keep their shape about the mean. The protocol names the seeds where there are several, for a mean of
    three scores of 1,000 samples is less noisy than one of them, but as biased.
    """
    if len(found) == 1:
        return dict(found[0])
    shrink = 1 / math.sqrt(len(found))
    means: dict[str, Score] = {}
    for name, first in found[0].items():
        scores = [one[name] for one in found]
        value = fmean(score.value for score in scores)
        intervals = [score.noise for score in scores if score.noise]
        noise = None
        if len(intervals) == len(scores):
            below = fmean(score.value - one.low for score, one in zip(scores, intervals, strict=True))
            above = fmean(one.high - score.value for score, one in zip(scores, intervals, strict=True))
            error = math.sqrt(fmean(one.error**2 for one in intervals))
            noise = Interval(value - below * shrink, value + above * shrink, error * shrink)
        protocol = replace(first.protocol, seeds=len(found))
        means[name] = replace(first, value=value, protocol=protocol, noise=noise)
    return means

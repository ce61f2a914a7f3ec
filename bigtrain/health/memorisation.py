"""A generator that copies training images, and data that hold copies of themselves."""

import math

import torch
from torch import Tensor

from bigtrain.health.monitor import Finding, History, Level, Monitor, grade


def nearest(features: Tensor, neighbours: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each sample [N, F] the distance to the nearest neighbour [M, F], and that one's index: each [N]."""
    return torch.cdist(features, neighbours).min(1)


def rank_z(ours: Tensor, others: Tensor) -> float:
    """Return Mann and Whitney's U of two samples as a standard normal number; negative if `ours` are smaller.

    On distances to the training images it is the data-copying test of Meehan, Chaudhuri & Dasgupta (2020, section 3).
    """
    n, m = len(ours), len(others)
    above = (ours[:, None] > others[None]).double() + 0.5 * (ours[:, None] == others[None]).double()
    return (float(above.sum()) - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)


class Memorisation(Monitor):
    """Fakes lie nearer to the training images than held-out real images do: they are copies, not new samples."""

    symptom = "memorisation"
    advice = "get more data or augment them (ADA), make both networks smaller, stop earlier; look at the picture"
    reads = ("features/nearest", "features/nearest_z")

    def assess(self, history: History) -> Finding:
        """See Monitor."""
        ratio, z = history[-1]["features/nearest"], history[-1]["features/nearest_z"]
        evidence = (
            f"a fake's distance to its nearest training image is {ratio:.2f} times a held-out image's "
            f"(rank test: z {z:.1f})"
        )
        if z > -3 or ratio > 0.8:
            return Finding(Level.OK, evidence)
        return Finding(Level.CRITICAL if ratio <= 0.5 else Level.WARNING, evidence)


class Duplicates(Monitor):
    """Training images that are there more than once."""

    symptom = "duplicated_data"
    advice = "remove duplicates from the dataset: G learns them by heart, and the test of memorisation is blind to it"
    reads = ("features/twins",)

    def assess(self, history: History) -> Finding:
        """See Monitor."""
        share = history[-1]["features/twins"]
        evidence = f"{share:.1%} of the inspected training images have an identical copy among them"
        return Finding(grade(share, warning=0.02, critical=0.2), evidence)

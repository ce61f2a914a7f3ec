"""A generator that makes too few different things: mode collapse, over all classes and inside each."""

import torch
from torch import Tensor

from bigtrain.health.monitor import Finding, History, Level, Monitor


def mean_distance(features: Tensor, label: Tensor | None = None) -> float:
    """Return the mean distance between two different samples.

    Args:
        features: shape [N, F].
        label: int64, shape [N]; if given, of pairs that share their label only.

    Returns:
        The mean Euclidean distance; NaN where there is no such pair.
    """
    distances = torch.cdist(features, features)
    pairs = torch.ones_like(distances, dtype=torch.bool) if label is None else label[:, None] == label[None]
    return float(distances[pairs.fill_diagonal_(False)].mean())


def different_bins(real: Tensor, fake: Tensor, bins: int, *, z: float = 1.96) -> float:
    """Return the share of statistically different bins, NDB / K (Richardson & Weiss 2018, section 2).

    Real features are clustered by K-means; each cluster is a bin, and a fake falls into that of the nearest centre. A
    bin is different when its shares of reals and of fakes differ by more than `z` standard errors of a two-proportion
    test. Two samples of one distribution differ in about 5 % of the bins.

    Args:
        real: features, shape [N, F].
        fake: features, shape [M, F].
        bins: K.
        z: critical value, of 5 % significance.
    """
    centres = k_means(real, bins)
    counts = [torch.bincount(torch.cdist(x, centres).argmin(1), minlength=bins).double() for x in (real, fake)]
    p, q = counts[0] / len(real), counts[1] / len(fake)
    pooled = (counts[0] + counts[1]) / (len(real) + len(fake))
    error = (pooled * (1 - pooled) * (1 / len(real) + 1 / len(fake))).sqrt()
    return float(((p - q).abs() > z * error).double().mean())


def k_means(features: Tensor, clusters: int, *, rounds: int = 20) -> Tensor:
    """Return K centres, shape [K, F]: Lloyd's algorithm from centres that are each farthest from those before."""
    chosen = [0]
    nearest = torch.cdist(features, features[:1]).squeeze(1)
    for _ in range(clusters - 1):
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, torch.cdist(features, features[chosen[-1:]]).squeeze(1))
    centres = features[chosen].clone()
    for _ in range(rounds):
        member = torch.cdist(features, centres).argmin(1)
        for cluster in range(clusters):
            if (member == cluster).any():
                centres[cluster] = features[member == cluster].mean(0)
    return centres


class ModeCollapse(Monitor):
    """Fakes resemble each other more than real images do, or miss most of the modes that real images have.

    Distances are between features of a fixed-seed batch of the averaged generator, relative to those between real
    images: 1 is as varied as the data. Inside a class they tell a generator that knows the classes and nothing else.
    """

    symptom = "mode_collapse"
    advice = (
        "return to an earlier checkpoint, lower the learning rates, enlarge the batch, use R1, minibatch standard "
        "deviation in D; check that z reaches G's image"
    )
    reads = ("features/diversity", "features/class_diversity", "features/different_modes")
    least, window = 1, 1
    collapse = True

    def assess(self, history: History) -> Finding:
        """See Monitor."""
        latest = history[-1]
        overall, inside = latest["features/diversity"], latest["features/class_diversity"]
        evidence = (
            f"fakes differ from each other {overall:.0%} as much as real images do, {inside:.0%} inside a class; "
            f"{latest['features/different_modes']:.0%} of the data's modes have too many or too few fakes"
        )
        worst = min(overall, inside)
        if worst <= 0.3:
            return Finding(Level.CRITICAL, evidence)
        return Finding(Level.WARNING if worst <= 0.5 else Level.OK, evidence)

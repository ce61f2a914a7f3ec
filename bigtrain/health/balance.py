"""Who is winning: a discriminator or a generator that overpowers the other, and a lead that swings to and fro."""

from itertools import pairwise

from bigtrain.health.monitor import Finding, History, Level, Monitor, column, mean

GENERATOR_NORM = "generator/gradient_norm"
"""The reading of the gradient norm of the player that has the role of the generator."""
_RECENT = 10
"""Readings that are averaged: one alone is a small sample."""


def accuracy(history: History) -> list[float]:
    """Return (E[sign D(real)] - E[sign D(fake)]) / 2: 1 when D is always right, 0 when it guesses, -1 when fooled."""
    return [
        (real - fake) / 2
        for real, fake in zip(column(history, "signs/real"), column(history, "signs/fake"), strict=True)
    ]


def gaps(history: History) -> list[float]:
    """Return E[D(real)] - E[D(fake)] in logits."""
    real, fake = column(history, "logits/real_mean"), column(history, "logits/fake_mean")
    return [a - b for a, b in zip(real, fake, strict=True)]


class DiscriminatorWins(Monitor):
    """D overpowers G: it is always right, and what G could learn from it vanishes.

    With a saturating loss G's gradient is proportional to sigmoid(D(fake)) (Arjovsky & Bottou 2017, theorem 2.4); with
    a non-saturating one it does not vanish, and the gap between the logits grows without bound instead.
    """

    symptom = "discriminator_wins"
    advice = (
        "lower D's learning rate or raise G's, regularise D (R1 with a larger gamma), give G a non-saturating loss, "
        "augment where data are few"
    )
    reads = ("logits/real_mean", "logits/fake_mean", "signs/real", "signs/fake", GENERATOR_NORM)
    least, window = _RECENT, 40
    collapse = True

    def assess(self, history: History) -> Finding:
        """See Monitor."""
        right, gap = mean(accuracy(history)[-_RECENT:]), mean(gaps(history)[-_RECENT:])
        norms = column(history, GENERATOR_NORM)
        left = mean(norms[-_RECENT:]) / max(max(norms), 1e-30)
        evidence = (
            f"D classifies {(1 + right) / 2:.1%} of all images correctly, its mean logits differ by {gap:.1f}, "
            f"G's gradient norm is {left:.2g} of its recent maximum"
        )
        if right >= 0.9 and (gap >= 8 or left <= 0.01):
            return Finding(Level.CRITICAL, evidence)
        return Finding(Level.WARNING if right >= 0.9 else Level.OK, evidence)


class GeneratorWins(Monitor):
    """G overpowers D: D takes fakes for real and real images for fakes, so that its gradient is of no use.

    Guessing alone is no sign of illness: where the game ends, D's logits are 0 (Goodfellow et al. 2014, theorem 1).
    """

    symptom = "generator_wins"
    advice = (
        "raise D's learning rate or lower G's, let D take more steps, give D more width, check that real images reach D"
    )
    reads = ("logits/real_mean", "logits/fake_mean", "signs/real", "signs/fake")
    least, window = _RECENT, _RECENT
    collapse = True

    def assess(self, history: History) -> Finding:
        """See Monitor."""
        right, gap = mean(accuracy(history)), mean(gaps(history))
        evidence = (
            f"D classifies {(1 + right) / 2:.1%} of all images correctly, "
            f"its mean logit of reals minus that of fakes is {gap:.2f}"
        )
        if gap >= 0 or right > -0.1:
            return Finding(Level.OK, evidence)
        return Finding(Level.CRITICAL if right <= -0.25 else Level.WARNING, evidence)


class Oscillation(Monitor):
    """The players circle around each other instead of meeting (Mescheder et al. 2018, section 2).

    A lead changes hands when D goes from clearly right to clearly fooled or back; what lies between does not count, so
    that noise makes no swings (a Schmitt trigger).
    """

    symptom = "oscillation"
    advice = "lower both learning rates, use R1, set beta1 to 0, enlarge the batch, average G for longer"
    reads = ("logits/real_mean", "logits/fake_mean", "signs/real", "signs/fake")
    least, window = 10, 20
    right, fooled = 0.5, -0.2

    def assess(self, history: History) -> Finding:
        """See Monitor."""
        leads = [value > 0 for value in accuracy(history) if value >= self.right or value <= self.fooled]
        swings = sum(before != after for before, after in pairwise(leads))
        evidence = f"the lead changed {swings} times in the last {len(history)} readings"
        if swings < 3:
            return Finding(Level.OK, evidence)
        return Finding(Level.CRITICAL if swings >= 6 else Level.WARNING, evidence)

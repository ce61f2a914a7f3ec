"""Numbers that run away: gradients and losses that blow up, and steps that had to be skipped."""

import math
from statistics import median

from bigtrain.health.monitor import Finding, History, Level, Monitor, column, grade, mean


class Divergence(Monitor):
    """Gradients, or losses, are far above what they were."""

    symptom = "divergence"
    advice = "lower the learning rates, warm them up, clip gradients, raise Adam's eps, use float32"
    reads = ("gradient_norm/*", "loss/*")
    least, window = 6, 30
    collapse = True

    def assess(self, history: History) -> Finding:
        """See Monitor: the latest reading against the median of those before, a level per power of ten."""
        *before, last = history
        growths: dict[str, float] = {}
        for name, value in last.items():
            if not math.isfinite(value):
                continue  # a skipped step, which another monitor counts
            usual = median(abs(readings[name]) for readings in before if math.isfinite(readings.get(name, math.nan)))
            # A loss below 1 is not blown up, however small it was before.
            growths[name] = abs(value) / max(usual, 1.0 if name.startswith("loss/") else 1e-3)
        if not growths:
            return Finding(Level.OK, "no finite gradient or loss to compare")
        worst = max(growths, key=lambda name: growths[name])
        evidence = f"{worst} is {last[worst]:.3g}, {growths[worst]:.1f} times its recent median"
        return Finding(grade(growths[worst], warning=10, critical=100), evidence)


class LearningStopped(Monitor):
    """Gradients have vanished although nobody has won: both networks answer everything alike.

    After a blow-up of the first steps that is what remains, with losses that look like those of a game at its end.
    """

    symptom = "learning_stopped"
    advice = "start again, with lower learning rates and a warm-up: networks that are saturated do not come back"
    reads = ("gradient_norm/*", "signs/real", "signs/fake")
    least, window = 5, 30
    collapse = True

    def assess(self, history: History) -> Finding:
        """See Monitor: the largest norm of the last readings against the largest ever."""
        left: dict[str, float] = {}
        for name in history[-1]:
            if name.startswith("gradient_norm/"):
                norms = column(history, name)
                left[name] = max(norms[-3:]) / max(*norms, 1e-30)
        worst = min(left, key=lambda name: left[name])
        right = mean(abs(readings["signs/real"] - readings["signs/fake"]) / 2 for readings in history[-3:])
        evidence = (
            f"{worst} is {left[worst]:.2g} of its recent maximum, "
            f"D classifies {(1 + right) / 2:.1%} of all images correctly"
        )
        if right >= 0.9:
            return Finding(Level.OK, evidence)
        return Finding(grade(-left[worst], warning=-1e-2, critical=-1e-3), evidence)


class NotFinite(Monitor):
    """Steps whose gradients were NaN or infinite, and were skipped."""

    symptom = "not_finite"
    advice = "lower the learning rates, use float32 (or keep more of D in it), clip gradients, look for damaged images"
    reads = ("skipped_step/*",)
    collapse = True

    def assess(self, history: History) -> Finding:
        """See Monitor: any is worth a word; when every second step is lost, training stands still."""
        name, share = max(history[-1].items(), key=lambda item: item[1])
        evidence = f"{share:.1%} of the steps of {name.removeprefix('skipped_step/')} were skipped"
        return Finding(grade(share, warning=1e-9, critical=0.5), evidence)


class Starvation(Monitor):
    """The ranks wait for batches instead of computing."""

    symptom = "data_starvation"
    advice = "raise data.workers, put the shards on a faster or local disk, choose a cheaper codec (npy)"
    reads = ("time/data_wait_share",)
    least, window = 3, 3

    def assess(self, history: History) -> Finding:
        """See Monitor."""
        share = min(column(history, "time/data_wait_share"))
        evidence = f"at least {share:.0%} of the time is spent waiting for batches"
        level = grade(share, warning=0.25, critical=0.6)
        return Finding(level, evidence)

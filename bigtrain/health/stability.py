"""Numbers that run away: gradients and losses that blow up, and steps that had to be skipped."""

from statistics import median

from bigtrain.health.monitor import Finding, History, Monitor, column, grade


class Divergence(Monitor):
    """Gradients, or losses, are far above what they were."""

    symptom = "divergence"
    advice = "lower the learning rates, warm them up, clip gradients, raise Adam's eps, use float32"
    reads = ("gradient_norm/*", "loss/*")
    least, window = 6, 30
    collapse = True

    def judge(self, history: History) -> Finding:
        """See Monitor: the latest reading against the median of those before, a level per power of ten."""
        *before, last = history
        growths: dict[str, float] = {}
        for name, value in last.items():
            usual = median(abs(readings[name]) for readings in before if name in readings)
            # A loss below 1 is not blown up, however small it was before.
            growths[name] = abs(value) / max(usual, 1.0 if name.startswith("loss/") else 1e-3)
        worst = max(growths, key=lambda name: growths[name])
        evidence = f"{worst} is {last[worst]:.3g}, {growths[worst]:.1f} times its usual size"
        return Finding(grade(growths[worst], warning=10, critical=100), evidence)


class NotFinite(Monitor):
    """Steps whose gradients were NaN or infinite, and were skipped."""

    symptom = "not_finite"
    advice = "lower the learning rates, use float32 (or keep more of D in it), clip gradients, look for damaged images"
    reads = ("skipped_step/*",)
    collapse = True

    def judge(self, history: History) -> Finding:
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

    def judge(self, history: History) -> Finding:
        """See Monitor."""
        share = min(column(history, "time/data_wait_share"))
        evidence = f"{share:.0%} of the time, at least, goes into waiting for batches"
        level = grade(share, warning=0.25, critical=0.6)
        return Finding(level, evidence)

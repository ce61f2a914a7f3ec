"""What can be seen in the weights alone: units that learn nothing, and matrices that grow."""

from bigtrain.health.monitor import Finding, History, Level, Monitor, grade


class DeadUnits(Monitor):
    """Units whose bias has not moved at all for some intervals: no gradient reaches them.

    Behind a ReLU such a unit is zero for every image (a "dead" one). A few are no illness: in healthy runs a quarter of
    a layer of eight units was seen to stand still. Where all of a player's units stand still, no
    gradient reaches the player.
    """

    symptom = "dead_units"
    advice = "lower the learning rate of that network, use leaky ReLU, start again: dead units do not come back"
    reads = ("still/*", "lr/*")
    least, window = 3, 3

    def assess(self, history: History) -> Finding:
        """See Monitor."""
        shares: dict[str, float] = {}
        for name in history[-1]:
            player, dot, _ = name.removeprefix("still/").partition(".")
            if dot and all(readings.get(f"lr/{player}", 1.0) > 0 for readings in history):
                shares[name] = min(readings.get(name, 0.0) for readings in history)
        if not shares:
            return Finding(Level.OK, "nothing could change: the learning rate is 0")
        worst = max(shares, key=lambda name: shares[name])
        evidence = f"{shares[worst]:.0%} of the units of {worst.removeprefix('still/')} have not changed"
        return Finding(grade(shares[worst], warning=0.5, critical=0.9), evidence)


class WeightGrowth(Monitor):
    """The largest singular value of a weight grows fast: a collapse is near (Brock et al. 2019, section 4.1)."""

    symptom = "weight_growth"
    advice = "lower the learning rates, use R1 or orthogonal regularisation, decay the weights, warm up"
    reads = ("sigma/*",)
    least, window = 4, 10

    def assess(self, history: History) -> Finding:
        """See Monitor."""
        first, last = history[0], history[-1]
        growths = {name: last[name] / max(first[name], 1.0) for name in last if name in first}
        worst = max(growths, key=lambda name: growths[name])
        evidence = (
            f"the largest singular value of {worst.removeprefix('sigma/')} is {last[worst]:.3g}, "
            f"{growths[worst]:.1f} times its value {len(history) - 1} readings before"
        )
        return Finding(grade(growths[worst], warning=5, critical=20), evidence)

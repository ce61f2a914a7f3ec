"""A discriminator that learns the training images by heart."""

from bigtrain.health.monitor import Finding, History, Level, Monitor, column, grade, mean

_SIGNIFICANT = 2.33
"""Standard errors that a few held-out images exceed by chance once in a hundred times."""


class DiscriminatorOverfits(Monitor):
    """D tells the images it trains on from those it has never seen: they look to it like fakes.

    r_v = (E[D_train] - E[D_validation]) / (E[D_train] - E[D_generated]) is 0 without overfitting and 1 when held-out
    images are as suspicious as generated ones (Karras et al. 2020, equation 1). r_t = E[sign D_train] goes beside it:
    the same paper keeps it at 0.6 by augmentation.
    """

    symptom = "discriminator_overfits"
    advice = "augment (ADA), raise R1's gamma, give D less width, get more data; stop at the best score"
    reads = ("logits/train", "logits/held_out", "logits/held_out_z", "logits/fake_mean", "signs/train")
    least, window = 8, 8

    def assess(self, history: History) -> Finding:
        """See Monitor."""
        train, held_out = mean(column(history, "logits/train")), mean(column(history, "logits/held_out"))
        fake, sign = mean(column(history, "logits/fake_mean")), mean(column(history, "signs/train"))
        z = mean(column(history, "logits/held_out_z"))
        # Where D cannot tell real from fake there is nothing to overfit with: a gap of one logit at least.
        share = (train - held_out) / max(train - fake, 1.0)
        evidence = (
            f"r_v {share:.2f}: D's logits are {train:.2f} on training images, {held_out:.2f} on held-out ones, "
            f"{fake:.2f} on fakes (the gap is {z:.1f} standard errors); r_t {sign:.2f}"
        )
        if z < _SIGNIFICANT:
            return Finding(Level.OK, evidence)
        return Finding(grade(share, warning=0.25, critical=0.5), evidence)

"""Feature matching: G matches the mean features that D has of reals."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from bigtrain.objectives.regularizers import feature_distance
from bigtrain.tasks.terms.base import GeneratorLossContext, GeneratorTerm, Setting


class FeatureMatching(GeneratorTerm):
    """The features of fakes in D should equal those of reals.

    Attributes:
        distance: `means` is lambda · mean over D's layers of |E f(x) - E f(G(z))|² (Salimans et al. 2016, section 3.1),
            where the expectations are means over a micro-batch; `l1` is lambda · sum over D's layers of
            E |f(y) - f(G(x))|, sample by sample, for a task with targets (Kumar et al. 2019, MelGAN, equation 3; Wang
            et al. 2018, pix2pixHD, equation 4).
    """

    pauses: ClassVar[bool] = True

    distance: Literal["means", "l1"] = "means"

    def check(self, setting: Setting) -> None:
        """See Term: only a target can be compared sample by sample."""
        if self.distance == "l1" and not setting.paired:
            raise ValueError("distance 'l1' compares the output of G with the sample's target, but this task has none")

    def in_generator(self, context: GeneratorLossContext) -> Tensor:
        """See GeneratorTerm."""
        layers = list(zip(context.real_features, context.fake_features, strict=True))
        if self.distance == "means":
            return torch.stack([feature_distance(real, fake) for real, fake in layers])
        gaps = [(real - fake).abs() for real, fake in layers]
        # The last layer is what D judges by: a D of several parts has the logits of all of them there.
        return torch.stack([*(gap.mean() for gap in gaps[:-1]), context.mean(gaps[-1])]).sum()

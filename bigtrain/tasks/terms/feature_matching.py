"""Feature matching: G matches the mean features that D has of reals."""

import torch
from torch import Tensor

from bigtrain.objectives.regularizers import feature_distance
from bigtrain.tasks.terms.base import GeneratorLossContext, GeneratorTerm


class FeatureMatching(GeneratorTerm):
    """lambda · mean over D's layers of |E f(x) - E f(G(z))|² (Salimans et al. 2016, section 3.1).

    The expectations are means over a micro-batch.
    """

    def in_generator(self, context: GeneratorLossContext) -> Tensor:
        """See GeneratorTerm."""
        layers = zip(context.real_features, context.fake_features, strict=True)
        return torch.stack([feature_distance(real, fake) for real, fake in layers])

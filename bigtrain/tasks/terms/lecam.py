"""LeCam regularisation: anchors D's logits, for few data."""

from pydantic import Field
from torch import Tensor

from bigtrain.core.schedules import ConstantSchedule, Schedule
from bigtrain.objectives.regularizers import lecam_penalty
from bigtrain.tasks.terms.base import DiscriminatorLossContext, DiscriminatorTerm


class LeCam(DiscriminatorTerm):
    """lambda · E (D(x) - α_F)² + E (D(G(z)) - α_R)² (Tseng et al. 2021, equation 5).

    Attributes:
        decay: decay per step of α_R and α_F, the moving averages of the logits of reals and fakes.
    """

    weight: Schedule = ConstantSchedule(value=0.3)
    decay: float = Field(default=0.99, ge=0, lt=1)

    def in_discriminator(self, context: DiscriminatorLossContext) -> Tensor:
        """See DiscriminatorTerm."""
        real, fake = context.real_logits, context.fake_logits
        context.averages.observe("lecam/real", real, decay=self.decay)
        context.averages.observe("lecam/fake", fake, decay=self.decay)
        return lecam_penalty(real, fake, context.averages["lecam/real"], context.averages["lecam/fake"])

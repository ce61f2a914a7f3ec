"""A term: fakes should be as bright as reals."""

from torch import Tensor

from bigtrain.tasks.terms import GeneratorLossContext, GeneratorTerm


class Brightness(GeneratorTerm):
    """(E G(z) - E x)², over all pixels of a micro-batch.

    Attributes:
        offset: how much brighter fakes should be.
    """

    offset: float = 0.0

    def in_generator(self, context: GeneratorLossContext) -> Tensor:
        """See GeneratorTerm."""
        return (context.fake.mean() - context.real.mean() - self.offset).square()

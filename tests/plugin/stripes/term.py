"""A term: fakes should be as bright as reals."""

from torch import Tensor

from bigtrain.tasks.terms import GeneratorStep, GeneratorTerm


class Brightness(GeneratorTerm):
    """(E G(z) - E x)², over all pixels of a micro-batch.

    Attributes:
        offset: how much brighter fakes should be.
    """

    offset: float = 0.0

    def in_generator(self, step: GeneratorStep) -> Tensor:
        """See GeneratorTerm."""
        return (step.fake.mean() - step.real.mean() - self.offset).square()

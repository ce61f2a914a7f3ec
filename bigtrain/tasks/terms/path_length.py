"""Path length regularisation: a step in W moves the image equally far everywhere."""

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from bigtrain.core.schedules import ConstantSchedule, Schedule
from bigtrain.models import StyleGenerator
from bigtrain.objectives.regularizers import path_lengths
from bigtrain.tasks.sampling import styles_of
from bigtrain.tasks.terms.base import GeneratorLossContext, GeneratorTerm, Setting


class PathLength(GeneratorTerm):
    """lambda · E (|Jᵀ y| - a)², a the moving average of the lengths (Karras et al. 2020a, equation 4).

    Attributes:
        decay: decay of the moving average per update.
        shrink: the term is computed on one of this number of samples, because it needs much memory.
    """

    weight: Schedule = ConstantSchedule(value=2.0)
    interval: PositiveInt = 4
    decay: float = Field(default=0.99, ge=0, lt=1)
    shrink: PositiveInt = 2

    @property
    def second_order(self) -> bool:
        """See Term."""
        return True

    def check(self, setting: Setting) -> None:
        """Refuse a generator without styles, and fewer samples than it shrinks by."""
        if not isinstance(setting.generator, StyleGenerator):
            raise ValueError("this term needs a generator with styles, but this one has none")
        if setting.micro_batch < self.shrink:
            raise ValueError(f"shrink {self.shrink} must not exceed micro_batch {setting.micro_batch}")

    def in_generator(self, context: GeneratorLossContext) -> Tensor:
        """See GeneratorTerm."""
        # By their place in the run: the same samples, however the batch is cut into micro-batches and over ranks.
        draws = context.draws.of("path_length")
        some = self._chosen(draws.index)
        draws = draws[some]
        z = draws.of("z").normal(context.G.z_dim)
        styles = styles_of(context.G, z, context.label[some], draws, context.style_mixing)
        image = context.G.synthesize(styles, draws=draws)
        lengths = path_lengths(image, styles, draws.of("direction").normal(*image.shape[1:]))
        context.averages.observe("path_length", lengths, decay=self.decay)
        # Micro-batches count alike, however many of their samples are chosen: of three, one or two.
        weight = len(lengths) * self.shrink / len(context.label)
        return weight * torch.square(lengths - context.averages["path_length"])

    def _chosen(self, index: Tensor) -> Tensor:
        """Return which samples of a micro-batch are computed, by their places in the run, which follow each other."""
        rest = index % self.shrink
        if len(index) % self.shrink:
            return (rest == 0).nonzero().squeeze(1)  # how many, the device must tell
        return rest.argsort(stable=True)[: len(index) // self.shrink]

"""Orthogonal regularisation of G's weights."""

import torch
from torch import Tensor, nn

from bigtrain.core.schedules import ConstantSchedule, Schedule
from bigtrain.models.layers.equalized import EqualizedConv2d, EqualizedLinear
from bigtrain.models.layers.spectral import SpectralConv2d, SpectralConv3d, SpectralLinear
from bigtrain.objectives.regularizers import off_orthogonal
from bigtrain.tasks.terms.base import GeneratorLossContext, GeneratorTerm, Setting


class Orthogonal(GeneratorTerm):
    """beta · Σ |W Wᵀ ⊙ (1 - I)|² over G's convolutions and linear layers (Brock et al. 2019, equation 3)."""

    weight: Schedule = ConstantSchedule(value=1e-4)

    def check(self, setting: Setting) -> None:
        """Refuse weights that the network scales when it uses them."""
        if any(isinstance(module, EqualizedConv2d | EqualizedLinear) for module in setting.generator.modules()):
            raise ValueError(
                "this term compares a layer's filters, but this generator scales its weights only when it uses them "
                "(equalised learning rate): their products have no meaning"
            )
        if not _weights_of(setting.generator):
            raise ValueError(
                "this term compares the filters of convolutions and linear layers, but this generator has none"
            )

    def in_generator(self, context: GeneratorLossContext) -> Tensor:
        """See GeneratorTerm."""
        return torch.stack([off_orthogonal(weight) for weight in _weights_of(context.G)]).sum()


def _weights_of(generator: nn.Module) -> list[Tensor]:
    layers = nn.Conv2d | nn.Conv3d | nn.Linear | SpectralConv2d | SpectralConv3d | SpectralLinear
    return [module.weight for module in generator.modules() if isinstance(module, layers)]

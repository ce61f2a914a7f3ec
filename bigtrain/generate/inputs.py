"""Real inputs for networks that make outputs from given ones: those of held-out samples."""

import torch
from torch import Tensor

from bigtrain.core.rng import Draws
from bigtrain.engine.reals import Reals
from bigtrain.engine.sampler import Sampler


class RealInputs:
    """Inputs of a sampler: drawn where it can draw them, else those of real samples in turn.

    Args:
        sampler: whose inputs.
        reals: samples that hold them.
        device: where the inputs are to be.
    """

    def __init__(self, sampler: Sampler, reals: Reals, device: torch.device) -> None:
        self._sampler, self._reals, self._device = sampler, reals, device

    def take(self, output: str, draws: Draws) -> dict[str, Tensor]:
        """Return the inputs from which an output is made, one a draw: draw i has real sample i modulo their number."""
        sources = self._sampler.sources(output)
        if self._sampler.drawn.issuperset(sources):
            return self._sampler.draw_inputs(draws)
        rows = draws.index.cpu() % len(self._reals)
        real = self._reals.batch(rows, self._device)
        return {name: real[name] for name in sources}

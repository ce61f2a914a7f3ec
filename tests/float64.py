"""Compute what training computes in float32 in float64, so that a test of equality asks for equality.

In float32, two orders of the same sum differ in the last digits; an input of a ReLU or of an absolute value that lies
within them falls to either side, and the trainings part. No seed of BigGAN's tiny networks is free of it. In float64
such an input is a billion times rarer, and what remains between two correct trainings is some 1e-13.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from bigtrain.core.rng import Draws


@contextmanager
def float64() -> Iterator[None]:
    """Within it, new weights, drawn numbers and what is widened to float32 elsewhere are float64."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        for name in ("uniform", "normal"):
            drawn = getattr(Draws, name)
            patch.setattr(Draws, name, lambda draws, *shape, drawn=drawn, **more: drawn(draws, *shape, **more).double())
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)

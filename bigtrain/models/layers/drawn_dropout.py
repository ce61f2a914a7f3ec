"""Dropout whose masks are functions of the samples' positions."""

from torch import Tensor, nn

from bigtrain.core.rng import Draws


class DrawnDropout(nn.Module):
    """Sets activations to zero with a probability and scales the others (Srivastava et al. 2014).

    The masks come from the draws, in training and in evaluation alike: pix2pix uses dropout as its noise (Isola et al.
    2017, section 3.2.1). Without draws it does nothing.

    Args:
        probability: of a zero, below 1.
        name: of the stream of random numbers, unique in the network.
    """

    def __init__(self, probability: float, name: str) -> None:
        super().__init__()
        self.probability, self.name = probability, name

    def forward(self, x: Tensor, draws: Draws | None) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        if draws is None or self.probability == 0.0:
            return x
        kept = draws.of(self.name).uniform(*x.shape[1:]) >= self.probability
        return x * (kept.to(x.dtype) / (1.0 - self.probability))

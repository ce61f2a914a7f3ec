"""How different two images of one class are: mean LPIPS of pairs (Zhu et al. 2017, BicycleGAN, section 5)."""

from torch import Tensor

from bigtrain.core.rng import Draws
from bigtrain.evaluation.metrics.path_length import Distance
from bigtrain.models.base import Generator


def pair_distances(generator: Generator, distance: Distance, draws: Draws, label: Tensor) -> Tensor:
    """Return the distance between two images of each sample's class, of different latents: float32, shape [N]."""
    one, other = (generator(draws.of(name).normal(generator.z_dim), label) for name in ("pair/z0", "pair/z1"))
    return distance(one, other)

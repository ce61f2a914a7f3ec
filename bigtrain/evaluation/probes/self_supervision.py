"""Train a probe without classes: copies of one sample get similar outputs, copies of different ones dissimilar ones.

This is the contrastive loss of SimCLR (Chen et al. 2020). Images, sounds' spectrograms, clips and volumes are changed
in the same way: only a random box of them is kept, its values are scaled, and noise is added.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.evaluation.probes.network import ProbeNetwork

OUTPUTS = 64
"""Length of the vectors that are compared."""
_KEPT, _GAIN, _NOISE = 0.6, 0.25, 0.1
"""Share of each axis that is kept at least; largest change of the scale; deviation of the noise."""
_TEMPERATURE = 0.1


def contrastive_loss(network: ProbeNetwork, stored: Tensor, chance: torch.Generator) -> Tensor:
    """Return the loss of a batch of fields as they are stored; `chance` is on the CPU."""
    similar = _similarities(network, stored, chance) / _TEMPERATURE
    own = torch.arange(len(stored), device=similar.device)
    return (F.cross_entropy(similar, own) + F.cross_entropy(similar.T, own)) / 2


def recognised(network: ProbeNetwork, stored: Tensor, chance: torch.Generator) -> int:
    """Return how many samples of a batch are most similar to the other copy of themselves."""
    own = torch.arange(len(stored), device=stored.device)
    return int((_similarities(network, stored, chance).argmax(1) == own).sum())


def _similarities(network: ProbeNetwork, stored: Tensor, chance: torch.Generator) -> Tensor:
    x = network.input_of(stored)
    one, other = (F.normalize(network(_changed(network, x, chance))) for _ in range(2))
    return one @ other.T


def _changed(network: ProbeNetwork, x: Tensor, chance: torch.Generator) -> Tensor:
    """Return changed copies of inputs [N, C, …]; what is left out gets the mean of all inputs."""
    count, axes = len(x), x.shape[2:]

    def uniform(low: float, high: float) -> Tensor:
        return (torch.rand(count, generator=chance) * (high - low) + low).to(x.device)

    changed = (x - network.mean) * uniform(1 - _GAIN, 1 + _GAIN).reshape(-1, *[1] * (x.ndim - 1))
    for axis, length in enumerate(axes):
        kept = (uniform(_KEPT, 1) * length).ceil()
        begin = (uniform(0, 1) * (length - kept + 1)).floor()
        places = torch.arange(length, device=x.device)
        inside = (places >= begin[:, None]) & (places < (begin + kept)[:, None])
        changed = changed * inside.reshape(count, 1, *[1] * axis, length, *[1] * (len(axes) - axis - 1))
    noise = torch.randn(x.shape, generator=chance).to(x.device)
    return changed + network.mean + _NOISE * network.deviation * noise

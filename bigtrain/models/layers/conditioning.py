"""Class labels as network inputs."""

import torch
from torch import Tensor, nn

from bigtrain.models.layers.spectral import WeightStyle


def class_weights(label: Tensor, classes: int) -> Tensor:
    """Return float32 weights of shape [N, classes]: one-hot for indices [N], unchanged for weights [N, classes].

    The index -1, of a sample without a label, has no weight at all.
    """
    if label.is_floating_point():
        return label
    return (label[:, None] == torch.arange(classes, device=label.device)).float()  # `one_hot` would wait for the device


class ClassTable(nn.Module):
    """One vector a class, without spectral normalisation.

    Args:
        classes: number of classes.
        features: length of a vector.
        style: how the vectors start.
    """

    def __init__(
        self,
        classes: int,
        features: int,
        style: WeightStyle = WeightStyle(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        self.style = style
        self.weight = nn.Parameter(torch.empty(classes, features))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fill the vectors anew."""
        self.style.initialise(self.weight)

    def forward(self, weights: Tensor) -> Tensor:
        """Map class weights [N, classes] to [N, features]."""
        return weights @ self.weight

"""The first half of a style-based generator: latents to styles (Karras et al. 2019, section 2)."""

import torch
from torch import Tensor, nn

from bigtrain.models.layers.conditioning import class_weights
from bigtrain.models.layers.equalized import EqualizedLinear


class MappingNetwork(nn.Module):
    """z and class -> w: normalised inputs through fully connected layers at a hundredth of the learning rate."""

    def __init__(self, z_dim: int, w_dim: int, classes: int, layers: int) -> None:
        super().__init__()
        self.classes, self.layers = classes, layers
        if classes:
            self.embed = EqualizedLinear(classes, w_dim)
        features = z_dim + (w_dim if classes else 0)
        for index in range(layers):
            layer = EqualizedLinear(features if index == 0 else w_dim, w_dim, act="lrelu", lr_multiplier=0.01)
            self.add_module(f"fc{index}", layer)

    def forward(self, z: Tensor | None, label: Tensor) -> Tensor:
        """Map z [N, z_dim] (None where z_dim is 0) and labels to w [N, w_dim]."""
        inputs = [] if z is None else [unit_second_moment(z.float())]
        if self.classes:
            inputs.append(unit_second_moment(self.embed(class_weights(label, self.classes)).float()))
        x = torch.cat(inputs, dim=1)
        for index in range(self.layers):
            x = self.get_submodule(f"fc{index}")(x)
        return x


def truncate(ws: Tensor, mean: Tensor, truncation: float, cutoff: int | None) -> Tensor:
    """Pull styles [N, num_ws, w_dim] towards their mean (the truncation trick, Karras et al. 2019, appendix B).

    Args:
        ws: the styles.
        mean: shape [w_dim].
        truncation: psi, the share of the way from the mean that is left; 1 changes nothing.
        cutoff: pull the first `cutoff` layers only; None for all.
    """
    if truncation == 1.0:
        return ws
    pulled: Tensor = mean.lerp(ws.float(), truncation)
    return pulled if cutoff is None else torch.cat([pulled[:, :cutoff], ws[:, cutoff:]], dim=1)


def unit_second_moment(x: Tensor) -> Tensor:
    """Scale each sample's vector [N, C] to a mean square of one ("pixel norm")."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()

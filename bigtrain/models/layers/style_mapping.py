"""The first half of a style-based generator: latents to styles (Karras et al. 2019, section 2)."""

import torch
from torch import Tensor, nn

from bigtrain.models.base import ImageSpec, StyleGenerator
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


class MappedGenerator(StyleGenerator):
    """A generator whose styles are one w for all layers, made by a mapping network.

    Attributes:
        w_avg: centre of mass of W, towards which truncation pulls.
    """

    w_avg: Tensor

    def __init__(self, image: ImageSpec, *, z_dim: int, w_dim: int, mapping_layers: int, num_ws: int) -> None:
        super().__init__()
        self.image, self.z_dim, self.w_dim, self.num_ws = image, z_dim, w_dim, num_ws
        self.mapping = MappingNetwork(z_dim, w_dim, image.classes, mapping_layers)
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def reset_parameters(self) -> None:
        """Forget the centre of mass of W."""
        nn.init.zeros_(self.w_avg)

    def styles(self, z: Tensor, label: Tensor, *, truncation: float = 1.0, cutoff: int | None = None) -> Tensor:
        """See StyleGenerator; the truncation trick of Karras et al. 2019, appendix B."""
        ws: Tensor = self.mapping(z, label)[:, None].expand(-1, self.num_ws, -1)
        if truncation == 1.0:
            return ws
        pulled: Tensor = self.w_avg.lerp(ws.float(), truncation)
        return pulled if cutoff is None else torch.cat([pulled[:, :cutoff], ws[:, cutoff:]], dim=1)

    @torch.no_grad()
    def calibrate(self, z: Tensor, label: Tensor) -> None:
        """Set the centre of mass of W."""
        self.w_avg.copy_(self.mapping(z, label).float().mean(0))


def unit_second_moment(x: Tensor) -> Tensor:
    """Scale each sample's vector [N, C] to a mean square of one ("pixel norm")."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()

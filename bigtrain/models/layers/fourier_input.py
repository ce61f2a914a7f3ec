"""The input of StyleGAN3: sine waves over a continuous plane, in place of a constant (Karras et al. 2021, section 3.1).

Each image moves and turns its plane by what its style says, and all of them by `transform`, the user's.
"""

import math

import torch
from torch import Tensor, nn

from bigtrain.models.layers.equalized import EqualizedLinear
from bigtrain.ops.precision import outside_autocast


class FourierInput(nn.Module):
    """Fourier features, uniformly distributed frequencies below a cutoff, mixed by a learnt matrix.

    The unit of length is the shorter side of the image; the origin is its centre.

    Args:
        w_dim: length of the style.
        channels: of the output.
        size: height and width in samples, margins included.
        rate: samples a unit.
        bandwidth: highest frequency, in periods a unit.

    Attributes:
        transform: the inverse of how the user moves the image, a 3x3 matrix in homogeneous coordinates.
    """

    freqs: Tensor
    phases: Tensor
    transform: Tensor

    def __init__(self, w_dim: int, channels: int, size: tuple[int, int], *, rate: float, bandwidth: float) -> None:
        super().__init__()
        self.size, self.rate, self.bandwidth = size, rate, bandwidth
        self.affine = _PlaneTransform(w_dim, 4)
        self.weight = nn.Parameter(torch.empty(channels, channels))
        self.register_buffer("freqs", torch.empty(channels, 2))
        self.register_buffer("phases", torch.empty(channels))
        self.register_buffer("transform", torch.empty(3, 3))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw frequencies uniformly from a disc, phases uniformly, weights normally; no transform."""
        angle = 2.0 * math.pi * torch.rand_like(self.phases)
        radius = self.bandwidth * torch.rand_like(self.phases).sqrt()
        self.freqs.copy_(torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1))
        nn.init.uniform_(self.phases, -0.5, 0.5)
        nn.init.eye_(self.transform)
        nn.init.normal_(self.weight)

    def forward(self, w: Tensor) -> Tensor:
        """Map styles [N, w_dim] to features [N, channels, *size], float32: positions need the precision."""
        with outside_autocast(w.device.type):
            plane = self._plane(w.float())
            freqs = self.freqs @ plane[:, :2, :2]
            phases = self.phases + (self.freqs @ plane[:, :2, 2:]).squeeze(2)
            # Frequencies that the transform pushed above the cutoff fade out before they could alias.
            excess = (freqs.norm(dim=2) - self.bandwidth) / (self.rate / 2 - self.bandwidth)
            x = torch.einsum("hwd,ncd->nhwc", self._positions(w.device), freqs) + phases[:, None, None]
            x = torch.sin(2.0 * math.pi * x) * (1.0 - excess).clamp(0.0, 1.0)[:, None, None]
            mixed: Tensor = x @ (self.weight / math.sqrt(self.weight.shape[1])).t()
            return mixed.permute(0, 3, 1, 2)

    def _plane(self, w: Tensor) -> Tensor:
        """Return each image's matrix from positions in the image to positions on its plane of waves, [N, 3, 3]."""
        cosine, sine, right, down = self.affine(w).unbind(1)
        length = (cosine.square() + sine.square()).sqrt()  # hypot cannot be written as ONNX
        cosine, sine, right, down = (value / length for value in (cosine, sine, right, down))
        zero, one = torch.zeros_like(sine), torch.ones_like(sine)
        turn = torch.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, one], dim=1).reshape(-1, 3, 3)
        move = torch.stack([one, zero, -right, zero, one, -down, zero, zero, one], dim=1).reshape(-1, 3, 3)
        plane: Tensor = turn @ move @ self.transform
        return plane

    def _positions(self, device: torch.device) -> Tensor:
        """Return the samples' centres, (x, y) on the last axis: shape [height, width, 2]."""
        y, x = ((torch.arange(side, device=device) - (side - 1) / 2) / self.rate for side in self.size)
        return torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=2)


class _PlaneTransform(EqualizedLinear):
    """Style -> (cosine, sine, right, down), which starts without turning or moving anything."""

    @torch.no_grad()
    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        self.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0], device=self.bias.device))

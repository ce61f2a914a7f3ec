"""A frozen convolution with its bias and ReLU: in one pass where oneDNN can do that."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrozenConvolution(nn.Conv2d):
    """A convolution, its bias and, unless `linear`, a ReLU.

    On a CPU in float32 oneDNN does all three in one pass, and the weights are laid out for it once instead of at every
    call; `plain` is the same by PyTorch's public functions, for everything else and as the reference.

    Args:
        weight: shape [C', C, K, L].
        bias: shape [C'].
        stride: of both directions.
        padding: of height and width.
        linear: leave the ReLU out.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, *, stride: int = 1, padding: tuple[int, int] = (0, 0), linear: bool = False
    ) -> None:
        width, channels, height, length = weight.shape
        super().__init__(channels, width, (height, length), stride, padding, device="meta")
        self.weight, self.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
        self._linear = linear
        self._laid_out: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H', W']."""
        fuses = self.weight.dtype == torch.float32 and x.is_cpu and torch._C._has_mkldnn
        return self._fused(x) if fuses and not x.requires_grad else self.plain(x)

    def plain(self, x: Tensor) -> Tensor:
        """Do the same step by step."""
        x = super().forward(x)
        return x if self._linear else F.relu_(x)

    def _fused(self, x: Tensor) -> Tensor:
        # What TorchInductor makes of a frozen convolution; these two have no public name.
        stride, padding = list(self.stride), [int(side) for side in self.padding]
        if self._laid_out is None:
            self._laid_out = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, padding, stride, [1, 1], 1, list(x.shape)
            )
        after = "none" if self._linear else "relu"
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._laid_out, self.bias, padding, stride, [1, 1], 1, after, [], ""
        )
        return result

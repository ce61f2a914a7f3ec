"""Inception-v3 features, for scores that can be compared with published ones (Szegedy et al. 2016; Heusel et al. 2017).

The network is that of the original FID with its quirks: average pooling that leaves the padding out, a maximum where
the last block should average, TensorFlow 1's resize. What is computed is the same as in torch-fidelity (its network is
the reference that this one is tested against), with less work: batch normalisation is folded into the convolutions,
1x1 convolutions that read the same input are one, and those behind an average pooling come before it, where there are
fewer channels.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigtrain.core.state import State
from bigtrain.evaluation.extractors.base import FeatureDtype
from bigtrain.evaluation.extractors.convolution import FrozenConvolution
from bigtrain.evaluation.extractors.cores import on_every_core
from bigtrain.evaluation.extractors.resize import resize_like_tensorflow1

_SIZE = 299
_EPSILON = 1e-3
_SPATIAL_CHANNELS, _SPATIAL_SIDE = 7, 17

Chain = tuple[str | tuple[str, ...], ...]
"""Convolutions one after the other, by name; a tuple of names reads the same input, and puts the outputs together."""

_A: dict[str, Chain] = {
    "branch1x1": (),
    "branch5x5_1": ("branch5x5_2",),
    "branch3x3dbl_1": ("branch3x3dbl_2", "branch3x3dbl_3"),
}
_C: dict[str, Chain] = {
    "branch1x1": (),
    "branch7x7_1": ("branch7x7_2", "branch7x7_3"),
    "branch7x7dbl_1": ("branch7x7dbl_2", "branch7x7dbl_3", "branch7x7dbl_4", "branch7x7dbl_5"),
}
_D: dict[str, Chain] = {
    "branch3x3_1": ("branch3x3_2",),
    "branch7x7x3_1": ("branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4"),
}
_E: dict[str, Chain] = {
    "branch1x1": (),
    "branch3x3_1": (("branch3x3_2a", "branch3x3_2b"),),
    "branch3x3dbl_1": ("branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")),
}


class InceptionV3(nn.Module):
    """The network of published FID, KID, Inception Score and sFID; see Extractor.

    Args:
        state: tensors by torch-fidelity's and pytorch-fid's names.
        weights_sha256: of the file that they came from.
        short_name: empty for the published weights.

    Attributes:
        layers: the pooled features; the logits that the Inception Score reads; and the first 7 channels of the
            convolution `mixed_6`, which are sFID's (Nash et al. 2021, section 5), by row, column, channel.
    """

    name = "inception-v3-compat"
    layers: Mapping[str, int] = MappingProxyType(
        {"pool": 2048, "logits": 1008, "spatial": _SPATIAL_CHANNELS * _SPATIAL_SIDE**2}
    )
    preprocessing = f"bilinear as in TensorFlow 1 to {_SIZE}x{_SIZE}, (x - 128) / 128"

    def __init__(self, state: State, *, weights_sha256: str, short_name: str = "") -> None:
        super().__init__()
        self.short_name, self.weights_sha256 = short_name, weights_sha256
        self.stem = nn.Sequential(
            _Convolution(state, "Conv2d_1a_3x3", stride=2),
            _Convolution(state, "Conv2d_2a_3x3"),
            _Convolution(state, "Conv2d_2b_3x3", padding=(1, 1)),
            nn.MaxPool2d(3, 2),
            _Convolution(state, "Conv2d_3b_1x1"),
            _Convolution(state, "Conv2d_4a_3x3"),
            nn.MaxPool2d(3, 2),
        )
        self.before = nn.Sequential(
            *(_Mixed(state, f"Mixed_5{letter}", _A) for letter in "bcd"),
            _MixedB(state, "Mixed_6a"),
            *(_Mixed(state, f"Mixed_6{letter}", _C) for letter in "bc"),
        )
        self.mixed_6 = _Mixed(state, "Mixed_6d", _C)
        self.after = nn.Sequential(
            _Mixed(state, "Mixed_6e", _C),
            _MixedD(state, "Mixed_7a"),
            _Mixed(state, "Mixed_7b", _E),
            _Mixed(state, "Mixed_7c", _E, average=False),
        )
        self.spatial = nn.Parameter(state["Mixed_6d.branch1x1.conv.weight"][:_SPATIAL_CHANNELS].clone())
        self.classes = nn.Parameter(state["fc.weight"].clone())
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @property
    def dtype(self) -> FeatureDtype:
        """See Extractor."""
        return "bf16" if self.classes.dtype == torch.bfloat16 else "fp32"

    def prepare(self, image: Tensor) -> Tensor:
        """Resize and normalise images with values up to 255."""
        return resize_like_tensorflow1(image, _SIZE).sub_(128).div_(128)

    def forward(self, image: Tensor, layers: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """See Extractor."""
        return on_every_core(partial(self._features, layers=layers), image)

    def _features(self, image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        x = self.prepare(image.float()).to(self.classes.dtype).expand(-1, 3, -1, -1)
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.before(self.stem(x))
        found = {}
        if "spatial" in layers:  # in the order of guided-diffusion's statistics, which TensorFlow gives: channels last
            found["spatial"] = F.conv2d(x, self.spatial).float().permute(0, 2, 3, 1).flatten(1)
        if set(layers) - found.keys():
            pool = self.after(self.mixed_6(x)).float().mean((2, 3))
            found |= {"pool": pool, "logits": F.linear(pool, self.classes.float())}
        return {layer: found[layer] for layer in layers}


class InceptionV3LikePytorchFid(InceptionV3):
    """The same network behind the resize of the tool pytorch-fid, whose scores are higher or lower by some percent."""

    name = "inception-v3-pytorch-fid"
    preprocessing = f"bilinear as in PyTorch, not antialiased, to {_SIZE}x{_SIZE}, x / 127.5 - 1"

    def prepare(self, image: Tensor) -> Tensor:
        """Resize and normalise images with values up to 255."""
        x = F.interpolate(image / 255, size=(_SIZE, _SIZE), mode="bilinear", align_corners=False)
        return 2 * x - 1


class _Convolution(FrozenConvolution):
    """Convolutions of one input with their batch normalisations folded in, and a ReLU unless `linear`.

    Args:
        state: of the whole network.
        names: in `state`; their outputs lie one after the other.
    """

    def __init__(
        self, state: State, *names: str, stride: int = 1, padding: tuple[int, int] = (0, 0), linear: bool = False
    ) -> None:
        folded = [_fold(state, name) for name in names]
        weight, bias = (torch.cat(parts) for parts in zip(*folded, strict=True))
        super().__init__(weight, bias, stride=stride, padding=padding, linear=linear)


class _Chain(nn.Sequential):
    """A chain of convolutions that keep the size; with a `stride`, the last one does not."""

    def __init__(self, state: State, block: str, chain: Chain, stride: int = 1) -> None:
        super().__init__()
        for number, step in enumerate(chain):
            if isinstance(step, tuple):
                self.append(_Together([_same(state, f"{block}.{name}") for name in step]))
            elif stride > 1 and number == len(chain) - 1:
                self.append(_Convolution(state, f"{block}.{step}", stride=stride))
            else:
                self.append(_same(state, f"{block}.{step}"))


class _Together(nn.ModuleList):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([module(x) for module in self], 1)


class _Mixed(nn.Module):
    """A block that keeps the size: chains that each begin with a 1x1 convolution, and a pooled branch.

    The average pooling is linear, and its weights sum to one: it may come after its convolution and bias.
    """

    def __init__(self, state: State, block: str, chains: Mapping[str, Chain], *, average: bool = True) -> None:
        super().__init__()
        names = [f"{block}.{name}" for name in chains]
        pooled = f"{block}.branch_pool"
        self._widths = [len(state[f"{name}.bn.bias"]) for name in names]
        self.entry = _Convolution(state, *names, *([pooled] if average else []), linear=True)
        self.pooled = None if average else _Convolution(state, pooled)
        self.chains = nn.ModuleList(_Chain(state, block, chain) for chain in chains.values())

    def forward(self, x: Tensor) -> Tensor:
        entry = self.entry(x)
        parts = list(entry.split([*self._widths, entry.shape[1] - sum(self._widths)], 1))
        rest = parts.pop()
        outputs = [chain(F.relu(part)) for chain, part in zip(self.chains, parts, strict=True)]
        if self.pooled is None:
            outputs.append(F.relu_(F.avg_pool2d(rest, 3, 1, 1, count_include_pad=False)))
        else:
            outputs.append(self.pooled(F.max_pool2d(x, 3, 1, 1)))
        return torch.cat(outputs, 1)


class _MixedB(nn.Module):
    """The block from 35x35 to 17x17."""

    def __init__(self, state: State, block: str) -> None:
        super().__init__()
        self.short = _Convolution(state, f"{block}.branch3x3", stride=2)
        self.long = _Chain(state, block, ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"), stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.short(x), self.long(x), F.max_pool2d(x, 3, 2)], 1)


class _MixedD(nn.Module):
    """The block from 17x17 to 8x8."""

    def __init__(self, state: State, block: str) -> None:
        super().__init__()
        self._widths = [len(state[f"{block}.{name}.bn.bias"]) for name in _D]
        self.entry = _Convolution(state, *(f"{block}.{name}" for name in _D))
        self.chains = nn.ModuleList(_Chain(state, block, chain, stride=2) for chain in _D.values())

    def forward(self, x: Tensor) -> Tensor:
        parts = self.entry(x).split(self._widths, 1)
        outputs = [chain(part) for chain, part in zip(self.chains, parts, strict=True)]
        return torch.cat([*outputs, F.max_pool2d(x, 3, 2)], 1)


def _same(state: State, name: str) -> _Convolution:
    """Return a convolution that keeps the size."""
    height, width = state[f"{name}.conv.weight"].shape[2:]
    return _Convolution(state, name, padding=(height // 2, width // 2))


def _fold(state: State, name: str) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a convolution with its batch normalisation; computed in float64."""
    norm = {part: state[f"{name}.bn.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")}
    scale = norm["weight"] / (norm["running_var"] + _EPSILON).sqrt()
    weight = state[f"{name}.conv.weight"].double() * scale[:, None, None, None]
    return weight.float(), (norm["bias"] - norm["running_mean"] * scale).float()

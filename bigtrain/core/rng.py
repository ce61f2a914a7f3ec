"""Random numbers as a pure function of (seed, stream, sample index): no state to save, the same on any world size.

Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") turns a 64-bit key and a 128-bit
counter into 128 random bits. The key is (seed, name of the stream), the counter is (block, 0, sample index), so that
sample 17 of stream `d_main/z` is the same vector whichever rank draws it, in whatever batch, before or after a resume.
All of it is integer tensor arithmetic: it runs on the device of the index, without a host synchronisation.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bigtrain.core.constants import constant
from bigtrain.core.philox import random_bits

SCHEME = "philox4x32-10, key (seed, crc32 of the stream), counter (block, 0, position)"
"""What a checkpoint calls this: a run cannot go on with other numbers as if nothing had happened."""


@dataclass(frozen=True)
class Draws:
    """The random numbers of a batch of samples.

    Attributes:
        seed: the run's seed, 0 <= seed < 2**32.
        index: each sample's position in the run, int64, shape [N].
        stream: what the numbers are for, for example `d_main/z`; different streams are independent.
    """

    seed: int
    index: Tensor
    stream: str = ""

    def of(self, name: str) -> "Draws":
        """Return the sub-stream `name`."""
        return replace(self, stream=f"{self.stream}/{name}" if self.stream else name)

    def __getitem__(self, rows: slice | Tensor) -> "Draws":
        """Return the draws of some of the samples."""
        return replace(self, index=self.index[rows])

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.index)

    def bits(self, count: int) -> Tensor:
        """Return `count` uniform 32-bit integers a sample: int64, shape [N, count]."""
        return random_bits(self.index, self.seed, _key(self.stream), count)

    def uniform(self, *shape: int) -> Tensor:
        """Return numbers uniform in [0, 1): float32, shape [N, *shape]."""
        bits = self.bits(math.prod(shape)) >> 8  # 24 bits: every value is exact in float32, and 1.0 is never reached
        return (bits.to(torch.float32) * 2.0**-24).reshape(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers: float32, shape [N, *shape] (Box and Muller 1958)."""
        count = math.prod(shape)
        pairs = -(-count // 2)
        radius, angle = self.uniform(2, pairs).unbind(1)
        radius = (-2.0 * torch.log1p(-radius)).sqrt()
        angle = 2.0 * math.pi * angle
        both = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
        return both[:, :count].reshape(-1, *shape)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Return integers uniform in [0, high): int64, shape [N, *shape]; the bias is below high / 2**32."""
        return ((self.bits(math.prod(shape)) * high) >> 32).reshape(-1, *shape)

    def categorical(self, weights: Sequence[float]) -> Tensor:
        """Return an index a sample, with probability proportional to its weight: int64, shape [N]."""
        edges = _edges(tuple(weights), self.index.device)
        return torch.searchsorted(edges, self.uniform(1).squeeze(1).double() * edges[-1], right=True)


@constant
def _edges(weights: tuple[float, ...], device: torch.device) -> Tensor:
    """Return the running sums of weights, computed on the host for every device: a GPU's may differ."""
    return torch.tensor(weights, dtype=torch.float64).cumsum(0).to(device)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _key(stream: str) -> int:
    """Return the half of the key that a stream's name is; a compiled network has it built in."""
    return zlib.crc32(stream.encode())

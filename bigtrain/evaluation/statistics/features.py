"""The features themselves, for metrics that compare images one by one: n x F float32 on every rank."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bigtrain.core.to_host import ToHost
from bigtrain.distributed.collectives import sum_over_ranks


@dataclass(frozen=True)
class Features:
    """Features of a set of images, in the images' order.

    Attributes:
        rows: float32 on the CPU, shape [N, F].
        label: class of each, int64, shape [N]; -1 for none.
    """

    rows: Tensor
    label: Tensor

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.rows)

    @classmethod
    def unlabelled(cls, rows: Tensor) -> "Features":
        """Return features of images without classes."""
        return cls(rows, torch.full((len(rows),), -1))

    def tensors(self) -> dict[str, Tensor]:
        """See Statistic."""
        return {"rows": self.rows, "label": self.label}


class FeatureRows:
    """Features of one rank's images, gathered at the end; see Collector."""

    name = "features"

    def __init__(self, features: int, count: int, device: torch.device) -> None:
        self._rows = torch.zeros(count, features)
        self._label = torch.zeros(count, dtype=torch.int64)
        self._coming: tuple[Tensor, ToHost, ToHost] | None = None

    def add(self, features: Tensor, index: Tensor, label: Tensor) -> None:
        """See Collector: waits for what was added before, not for this."""
        coming = (index, ToHost(features), ToHost(label))
        self._settle()
        self._coming = coming

    def _settle(self) -> None:
        if self._coming is not None:
            (index, features, label), self._coming = self._coming, None
            self._rows[index] = features.wait()
            self._label[index] = label.wait()

    def over_ranks(self) -> Features:
        """See Collector: each row is one rank's and zero on the others, so that their sum is exact."""
        self._settle()
        return Features(sum_over_ranks(self._rows), sum_over_ranks(self._label))

    @staticmethod
    def restore(tensors: dict[str, Tensor]) -> Features:
        """See Collector."""
        return Features(tensors["rows"], tensors["label"])

"""Images of a dataset of shards."""

import hashlib
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bigtrain.core.crop import Size, center_crop
from bigtrain.evaluation.errors import EvaluationError
from data_pipelines.batches import OnCorrupt, read_substitute
from data_pipelines.faults import FaultLog
from data_pipelines.fields.decoder import new_batch
from data_pipelines.manifest import CLASS, IMAGE
from data_pipelines.order import SampleOrder
from data_pipelines.read import DamageError, ShardDataset

MOST = 2_000_000
"""Images that are compared with unless a number is named: some hours of a GPU, and 16 GB of features where a metric
needs all of them."""


def check_number(count: int | None, images: int, name: str | Path) -> None:
    """See that nobody compares with a billion images by mistake.

    Args:
        count: images to compare with; None for all.
        images: of the set.
        name: of the set.

    Raises:
        EvaluationError: all of a set are asked for that has too many.
    """
    if count is None and images > MOST:
        raise EvaluationError(
            f"{name}: has {images:,} images; compare with some of them (reference_samples: 50000, a random choice that "
            "stays the same) or with a file of statistics (reference: FILE.npz)"
        )


class ShardImages:
    """A random subset of a dataset, the same whatever trains on it; see Images.

    Args:
        dataset: where they are.
        count: how many; None for all. A smaller subset is part of a larger one.
        field: which of the samples' fields, of any kind.
        size: height and width that is cut out of the middle of the images; None for all of them.
        on_corrupt: whether another image stands in for a damaged one, the same on any number of ranks, or reading ends
            with an error.
        faults: where damaged images are listed; None to list them in the log only.

    Attributes:
        spec: of the field.
        replaced: numbers of the images that this rank has read others for.

    Raises:
        EvaluationError: all images of a set are asked for that has too many.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        count: int | None = None,
        *,
        field: str = IMAGE,
        size: Size | None = None,
        on_corrupt: OnCorrupt = "fail",
        faults: FaultLog | None = None,
    ) -> None:
        manifest = dataset.manifest
        check_number(count, manifest.count, dataset.folder)
        self._dataset, self._count = dataset, min(count or manifest.count, manifest.count)
        self._order = SampleOrder(manifest.counts.tolist(), seed=0)
        decoders = dataset.decoders_of((field, CLASS))
        self._field, self._decoders = field, decoders
        self.spec = manifest.fields[field]
        self._whole: Size | None = (self.spec.shape[1], self.spec.shape[2]) if self.spec.kind == "image" else None
        self._size = size or self._whole
        self._on_corrupt, self._faults = on_corrupt, faults or FaultLog()
        self.name, self.classes = str(dataset.folder), manifest.classes
        self.replaced: set[int] = set()
        self.faults: list[str] = []  # damaged ones are replaced, or end the reading

    @property
    def digest(self) -> str:
        """See Images; the manifest's, until an image turns out to be damaged."""
        digest = self._dataset.manifest.digest
        if self._field != IMAGE:
            digest = hashlib.sha256(f"{digest} field {self._field}".encode()).hexdigest()
        if self._size != self._whole:
            digest = hashlib.sha256(f"{digest} cut to {self._size}".encode()).hexdigest()
        if not self.replaced:
            return digest
        return hashlib.sha256(f"{digest} without {sorted(self.replaced)}".encode()).hexdigest()

    def __len__(self) -> int:
        """See Images."""
        return self._count

    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """See Images.

        Raises:
            DataError: an image is damaged, and is not to be replaced or cannot be.
        """
        fields = new_batch(self._decoders, len(index))
        for slot, position in enumerate(index.tolist()):
            read = partial(self._dataset.read_into, out={name: array[slot, ...] for name, array in fields.items()})
            try:
                read(self._order.locate(position))
            except DamageError as error:
                if self._on_corrupt == "fail":
                    raise
                read_substitute(self._order, position, error, read, self._faults)
                self.replaced.add(position)
        stored = torch.from_numpy(fields[self._field])
        return center_crop(stored, self._size) if self._size else stored, torch.from_numpy(fields[CLASS])

"""Turn the samples of a stream into batches on the device: normalised, cropped and flipped, all by position."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from bigtrain.augment.derived import DerivedField, derive
from bigtrain.core.batch import Batch, dense
from bigtrain.core.crop import center_crop, random_crop
from bigtrain.core.rng import Draws
from bigtrain.core.to_device import ToDevice
from data_pipelines.fields.registry import kind_of
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.stream import HostBatch


class Faults(Protocol):
    """Counts of damaged samples and of retries since the start."""

    @property
    def replaced(self) -> int:
        """Damaged samples that others stood in for."""

    @property
    def retries(self) -> int:
        """Fetches that were tried again."""


class Stream(Protocol):
    """The source of a feed's samples: one stream, or several that advance together."""

    @property
    def faults(self) -> Faults:
        """What was damaged on the way."""

    def __next__(self) -> HostBatch:
        """Return the next samples."""

    def seek(self, position: int) -> None:
        """Go to a position."""

    def has_read(self, batches: int) -> bool:
        """Tell whether so many next batches, or as many as are read ahead, have been read."""

    def close(self) -> None:
        """Stop reading ahead."""


@dataclass(frozen=True)
class BatchTransform:
    """The transform of a stream's samples on the device; its random numbers depend on their positions.

    Attributes:
        crop: where larger images are cut: in the middle, or anywhere, drawn for each sample.
        flip: whether to mirror half of the samples, left to right, all image fields of a sample alike.
        label_dropout: probability that a sample loses its class, which becomes -1.
    """

    crop: Literal["center", "random"] = "center"
    flip: bool = False
    label_dropout: float = 0.0

    def __call__(self, fields: Mapping[str, Tensor], specs: Mapping[str, FieldSpec], draws: Draws) -> dict[str, Tensor]:
        """Normalise and change fields.

        Args:
            fields: as they are stored, on the device, each [N, …].
            specs: of the fields.
            draws: one a sample.
        """
        mirrored = draws.of("data/flip").integers(2).reshape(-1, 1, 1, 1) == 1 if self.flip else None
        return {name: self._field(field, specs[name], draws, mirrored) for name, field in fields.items()}

    def _field(self, field: Tensor, spec: FieldSpec, draws: Draws, mirrored: Tensor | None) -> Tensor:
        if spec.kind == "class" and self.label_dropout:
            dropped = draws.of("data/label_dropout").uniform(1).squeeze(1) < self.label_dropout
            return field.masked_fill(dropped, -1)
        if spec.kind != "image":
            return dense(normalise(spec, field))
        size = (spec.shape[1], spec.shape[2])
        if tuple(field.shape[2:]) != size:
            field = (
                random_crop(field, size, draws.of("data/crop")) if self.crop == "random" else center_crop(field, size)
            )
        image = normalise(spec, field)
        return dense(image if mirrored is None else torch.where(mirrored, image.flip(3), image))


class Feed(Iterator[Batch]):
    """Iterate over this rank's shares of the global batches, on its device.

    Args:
        stream: of samples, read ahead.
        specs: of the fields that the samples have.
        transforms: of each stream, by its name; one stream has the name "".
        derived: fields that are computed from them, by name.
        seed: of the draws, asked for at each batch.
        device: where to.
        waiting: surrounds the time for which samples are waited for.
    """

    def __init__(
        self,
        stream: Stream,
        specs: Mapping[str, FieldSpec],
        transforms: Mapping[str, BatchTransform],
        derived: Mapping[str, DerivedField],
        *,
        seed: Callable[[], int],
        device: torch.device,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._stream, self._specs, self._transforms, self._derived = stream, specs, transforms, derived
        self._seed, self._to_device, self._waiting = seed, ToDevice(device), waiting

    @property
    def faults(self) -> Faults:
        """What was damaged on the way."""
        return self._stream.faults

    def __next__(self) -> Batch:
        """Return the next batch."""
        with self._waiting():
            host = next(self._stream)
        draws = Draws(self._seed(), self._to_device.send("positions", host.positions))
        fields: dict[str, Tensor] = {}
        for name, transform in self._transforms.items():
            prefix = f"{name}." if name else ""
            mine = [field for field in self._specs if field.startswith(prefix)]
            moved = {field: self._to_device.send(field, host.fields[field]) for field in mine}
            fields |= transform(moved, self._specs, draws.of(name) if name else draws)
        return Batch(derive(self._derived, fields, draws), draws)

    def seek(self, position: int) -> None:
        """Go to a position of the run: the next batch begins there."""
        self._stream.seek(position)

    def has_read(self, batches: int) -> bool:
        """Tell whether so many next batches, or as many as are read ahead, have been read."""
        return self._stream.has_read(batches)

    def close(self) -> None:
        """Stop reading ahead."""
        self._stream.close()


def normalise(spec: FieldSpec, field: Tensor) -> Tensor:
    """Return a stored field, on the device, as networks take it: see the kind's own `normalise`."""
    return kind_of(spec).normalise(spec, field)

"""Fakes beside real images, in the feature space of the evaluation's extractor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bigtrain.core.quantise import to_uint8
from bigtrain.core.rng import Draws
from bigtrain.distributed.collectives import sum_over_ranks
from bigtrain.distributed.init import Ranks
from bigtrain.engine.reals import Reals
from bigtrain.evaluation.extractors.base import Extractor
from bigtrain.health.diversity import different_bins, mean_distance
from bigtrain.health.memorisation import nearest, rank_z
from bigtrain.tasks.samplers import CLASS

GenerateForProbe = Callable[[Mapping[str, Tensor], Draws], Mapping[str, Tensor]]
"""Maps inputs and draws of n samples to outputs by name, n images around [-1, 1] each."""

_BATCH = 32
_PER_LABEL = 4
"""Fakes that share a label, so that there are pairs of one class however many classes there are."""
_SHOWN = 8
_TWINS = 0.01
"""Images nearer than this share of the mean distance are the same image."""


@dataclass(frozen=True)
class Neighbours:
    """The most suspicious fakes and held-out images, each above its nearest training image.

    Attributes:
        images: uint8, shape [4 * columns, C, H, W]: fakes, their neighbours, held-out images, their neighbours.
        columns: images a row.
    """

    images: Tensor
    columns: int


class FeatureProbe:
    """Measures variety and novelty of a fixed-seed batch.

    Args:
        build_extractor: called once, when the first features are needed.
        trained: samples that are trained on.
        held_out: samples that are not.
        field: the images of a sample that fakes are compared with.
        conditions: fields that fakes are made from; a class is shared by several fakes, so that there are pairs of one
            class however many classes there are.
        count: fakes to look at.
        seed: of their latents.
        ranks: who shares the work.
        suffix: of the readings' names, where a run has several outputs.
    """

    def __init__(
        self,
        build_extractor: Callable[[], Extractor],
        trained: Reals,
        held_out: Reals,
        *,
        field: str,
        conditions: Sequence[str],
        count: int,
        seed: int,
        ranks: Ranks,
        suffix: str = "",
    ) -> None:
        self._field, self.suffix = field, suffix
        self._build_extractor = build_extractor
        self._trained, self._held_out = trained.fields[field], held_out.fields[field]
        repeats = _PER_LABEL if set(conditions) <= {CLASS} else 1
        rows = torch.arange(min(max(count // repeats, 1), len(trained))).repeat_interleave(repeats)
        labels = trained.fields.get(CLASS, torch.zeros(len(trained), dtype=torch.int64))
        self._label, self._labels = labels, labels[rows]
        self._given = trained.batch(rows, torch.device("cpu")) if conditions else None
        self._conditions = conditions
        self._seed, self._ranks = seed, ranks
        self._extractor: Extractor | None = None

    @torch.inference_mode()
    def read(self, generate: GenerateForProbe) -> tuple[dict[str, float], Neighbours | None]:
        """Return readings `features/…`, and pictures if there are held-out images to compare with. Collective."""
        if self._extractor is None:
            self._extractor = self._build_extractor()
            self._trained_features = self._extract(len(self._trained), lambda rows: self._trained[rows])
            self._held_out_features = self._extract(len(self._held_out), lambda rows: self._held_out[rows])
            self._twins = share_of_twins(self._trained_features)
        fakes = torch.zeros(len(self._labels), *self._trained.shape[1:], dtype=torch.uint8)

        def generated(rows: Tensor) -> Tensor:
            draws = Draws(self._seed, rows.to(self._ranks.device), "health")
            given = self._given.fields if self._given else {}
            inputs = {name: given[name][rows].to(self._ranks.device) for name in self._conditions}
            fakes[rows] = to_uint8(generate(inputs, draws)[self._field]).cpu()
            return fakes[rows]

        features = self._extract(len(self._labels), generated)
        readings = {**self._variety(features), "features/twins": self._twins}
        if not len(self._held_out):
            return self._named(readings), None
        fake_distance, fake_nearest = nearest(features, self._trained_features)
        real_distance, real_nearest = nearest(self._held_out_features, self._trained_features)
        readings["features/nearest"] = float(fake_distance.median() / real_distance.median().clamp(min=1e-9))
        readings["features/nearest_z"] = rank_z(fake_distance, real_distance)
        columns = min(_SHOWN, len(self._labels), len(self._held_out))
        first, second = fake_distance.argsort()[:columns], real_distance.argsort()[:columns]
        rows = [
            sum_over_ranks(fakes.int()).byte()[first],
            self._trained[fake_nearest[first]],
            self._held_out[second],
            self._trained[real_nearest[second]],
        ]
        return self._named(readings), Neighbours(torch.cat(rows), columns)

    def _named(self, readings: dict[str, float]) -> dict[str, float]:
        return {f"{name}{self.suffix}": value for name, value in readings.items()}

    def _variety(self, fake: Tensor) -> dict[str, float]:
        """Compare distances between fakes with those between real images."""
        real, label = self._trained_features, self._label
        known = torch.isin(label, self._labels)
        overall = mean_distance(fake) / mean_distance(real)
        inside = mean_distance(fake, self._labels) / mean_distance(real[known], label[known])
        bins = max(min(len(real) // 20, len(fake) // 6), 2)
        return {
            "features/diversity": overall,
            "features/class_diversity": inside,
            "features/different_modes": different_bins(real, fake, bins),
        }

    def _extract(self, count: int, images: Callable[[Tensor], Tensor]) -> Tensor:
        """Extract features of images 0 .. count - 1, each on one rank: float64 on the CPU, shape [count, F]."""
        assert self._extractor is not None
        features = torch.zeros(count, self._extractor.layers["pool"], dtype=torch.float64)
        mine = torch.arange(count)[self._ranks.rank :: self._ranks.world_size]  # none, where there are more ranks
        for rows in torch.split(mine, _BATCH):
            if len(rows):
                features[rows] = self._extractor(images(rows).to(self._ranks.device))["pool"].double().cpu()
        return sum_over_ranks(features)


def share_of_twins(features: Tensor) -> float:
    """Return the share of samples [N, F] that have another one at (almost) no distance."""
    distances = torch.cdist(features, features).fill_diagonal_(torch.inf)
    usual = distances[distances.isfinite()].mean()
    return float((distances.min(1).values <= _TWINS * usual).double().mean())

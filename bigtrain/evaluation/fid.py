"""Compare two sets of images on all ranks: `python -m bigtrain.evaluation.fid generated=A reference=B`."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args

from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from bigtrain.core.config import Config
from bigtrain.core.logging import console, log, progress_bars
from bigtrain.core.names import NameOf
from bigtrain.distributed.collectives import is_rank_zero
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.program import as_one_of_the_ranks, settings_of_program
from bigtrain.engine.sampler import NO_PRIOR
from bigtrain.evaluation.distances import DISTANCES, FeatureDistance, build_distance
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.extractors import build_extractor
from bigtrain.evaluation.extractors.base import Extractor, FeatureDtype, suffix_of
from bigtrain.evaluation.image_pairs import HIGHER_IS_BETTER, PairMetricName, score_pairs
from bigtrain.evaluation.images import Images
from bigtrain.evaluation.images.files import FileImages
from bigtrain.evaluation.images.generated import GeneratedImages
from bigtrain.evaluation.images.shards import ShardImages
from bigtrain.evaluation.measuring import check_classes, measure
from bigtrain.evaluation.metrics import METRICS, choose
from bigtrain.evaluation.metrics.base import Metric
from bigtrain.evaluation.outputs import images_of, outputs_of, stored_as
from bigtrain.evaluation.protocol import QUANTISATION, Score, ScoreProtocol, as_json, seen_by, with_settings
from bigtrain.evaluation.published import Published, holds_statistics, load_published
from bigtrain.evaluation.table import score_table
from bigtrain.generate.snapshot import DESCRIPTION as SNAPSHOT
from bigtrain.generate.snapshot import load_snapshot
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.manifest import FILE_NAME as MANIFEST
from data_pipelines.manifest import IMAGE
from data_pipelines.read import ShardDataset
from data_pipelines.remote import is_remote

PAIRED: tuple[PairMetricName, ...] = get_args(PairMetricName)


class Comparison(Config):
    """What `bigtrain fid` compares, and how.

    Attributes:
        generated: images to score: what `open_images` reads (folder, archive, `.npz` or `.npy` of images), shards,
            snapshot, or `.npz` of statistics.
        reference: what they are compared with: likewise.
        metrics: which; names of `METRICS`, or of pairs of images.
        extractor: see `build_extractor`.
        dtype: precision of the features.
        weights: file or folder of the extractor's weights, and of LPIPS.
        samples: images of a snapshot to generate.
        seed: of their latents.
        batch: images at once.
        kid_subset_size: images of each of KID's subsets; null for the usual 1,000.
        as_json: print one JSON line instead of a table.
    """

    generated: str
    reference: str
    metrics: tuple[Annotated[str, NameOf("metric", lambda: (*METRICS, *PAIRED))], ...] = ("fid",)
    extractor: str = "auto"
    dtype: FeatureDtype = "fp32"
    weights: Path | None = None
    samples: int = Field(50_000, ge=2)
    seed: NonNegativeInt = 0
    batch: PositiveInt = 32
    kid_subset_size: Annotated[int, Field(ge=2)] | None = None
    as_json: bool = False


@dataclass(frozen=True)
class ComparisonResult:
    """The result of a comparison.

    Attributes:
        scores: by name.
        generated: where these images are, and how many.
        reference: likewise.
    """

    scores: dict[str, Score]
    generated: Mapping[str, Any]
    reference: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return it for a file."""
        return {"scores": as_json(self.scores), "generated": self.generated, "reference": self.reference}


def compare(comparison: Comparison, ranks: Ranks) -> ComparisonResult:
    """Compute all scores of a comparison. Collective.

    Raises:
        EvaluationError, SnapshotError, DataError: missing, unreadable, or not fitting each other.
    """
    named = [name for name in METRICS if name in comparison.metrics]
    of_features = choose(named, kid_subset_size=comparison.kid_subset_size)
    of_pairs = [name for name in PAIRED if name in comparison.metrics]
    extractor = (
        build_extractor(comparison.extractor, comparison.dtype, ranks.device, weights=comparison.weights)
        if of_features
        else None
    )
    field: FieldSpec | None = getattr(extractor, "field", None)
    generated, reference = (
        _open(place, comparison, ranks, field) for place in (comparison.generated, comparison.reference)
    )
    if extractor is not None:
        for side in (generated, reference):
            check_classes(extractor, of_features, side.classes if isinstance(side, ImagesWithProgress) else ())
    scores: dict[str, Score] = {}
    with _shown(generated), _shown(reference):
        if extractor is not None:
            scores |= _score_features(of_features, generated, reference, extractor, ranks, batch=comparison.batch)
        if of_pairs:
            scores |= _score_pairs(of_pairs, generated, reference, comparison, ranks)
    return ComparisonResult(scores, _about(generated), _about(reference))


class ImagesWithProgress:
    """Images with a progress bar and, at the end, a report of what was unusual about them; see Images.

    Args:
        images: any.
        ranks: who shares the work; rank 0 shows its own share.
    """

    def __init__(self, images: Images, ranks: Ranks) -> None:
        self._images, self._ranks = images, ranks
        self.name, self.digest, self.classes = images.name, images.digest, images.classes
        self.prior = images.prior if isinstance(images, GeneratedImages) else NO_PRIOR
        self._bars = progress_bars()
        self._bars.disable |= ranks.rank != 0
        self._task = self._bars.add_task(images.name, total=len(images), note="")

    def __len__(self) -> int:
        """See Images."""
        return len(self._images)

    @property
    def faults(self) -> list[str]:
        """See Images."""
        return self._images.faults

    @property
    def stems(self) -> list[str] | None:
        """The names of image files without their extensions; None for other images."""
        return self._images.stems if isinstance(self._images, FileImages) else None

    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """See Images."""
        self._bars.start()
        found = self._images.read(index)
        self._bars.advance(self._task, len(index) * self._ranks.world_size)
        return found

    def done(self) -> None:
        """Take the bar away, and tell what was odd."""
        self._bars.stop()
        if not isinstance(self._images, FileImages):
            return
        rank = self._ranks.rank
        if self._images.left_aside and rank == 0:
            log.info("%s: ignored: %s", self.name, self._images.left_aside)
        if grey := self._images.grey:
            log.warning("%s: %d grey images among those of rank %d became RGB, the first: %s", self.name, len(grey),
                        rank, min(grey))  # fmt: skip
        if dark := self._images.dark:
            log.warning("%s: %d images of 16 bits among those of rank %d use 12 bits or less and are dark (%s, …): "
                        "multiply them by 16 before", self.name, len(dark), rank, min(dark))  # fmt: skip


Side = ImagesWithProgress | Published


def _open(place: str, comparison: Comparison, ranks: Ranks, field: FieldSpec | None) -> Side:
    """Return what a user means by a path.

    Args:
        place: the path.
        comparison: what else the user says.
        ranks: who shares the work.
        field: what the extractor looks at; None for images.

    Raises:
        EvaluationError, SnapshotError, DataError: nothing that can be compared.
    """
    path = Path(place).expanduser()
    if is_remote(place) or (path / MANIFEST).is_file():
        dataset = ShardDataset(place if is_remote(place) else path)
        return ImagesWithProgress(ShardImages(dataset, field=_field_like(dataset, field)), ranks)
    if (path / SNAPSHOT).is_file():
        return ImagesWithProgress(_of_snapshot(path, comparison, ranks), ranks)
    if path.suffix == ".npz" and holds_statistics(path):
        return load_published(path)
    threads = max((os.cpu_count() or 1) // ranks.world_size, 1)
    return ImagesWithProgress(FileImages(path, threads=threads), ranks)


def _field_like(dataset: ShardDataset, field: FieldSpec | None) -> str:
    """Return the name of the field of a dataset that an extractor can look at."""
    if field is None:
        return IMAGE
    alike = (field.kind, field.shape, field.dtype, field.rate)
    for name, spec in dataset.manifest.fields.items():
        if (spec.kind, spec.shape, spec.dtype, spec.rate) == alike:
            return name
    raise EvaluationError(
        f"{dataset.folder}: has no field like that of the probe: {field.dtype} {field.kind} of {field.size_words}"
    )


def _of_snapshot(path: Path, comparison: Comparison, ranks: Ranks) -> GeneratedImages:
    snapshot = load_snapshot(path)
    sampler = snapshot.sampler
    name, spec = next(iter(sampler.outputs.items()))
    generate = images_of(outputs_of(snapshot, ranks.device), lambda output, draws: sampler.draw_inputs(draws), name)
    return GeneratedImages(
        generate,
        comparison.samples,
        seed=comparison.seed,
        device=ranks.device,
        name=str(path),
        classes=snapshot.class_names,
        prior=sampler.prior,
        stored=partial(stored_as, spec),
    )


def _score_features(
    metrics: Mapping[str, Metric], generated: Side, reference: Side, extractor: Extractor, ranks: Ranks, *, batch: int
) -> dict[str, Score]:
    """Compute metrics of features, with one pass over each side. Collective."""
    found = measure(metrics, reference, generated, extractor, ranks, batch=batch)
    return {
        f"{name.rstrip('_')}{suffix_of(extractor)}": Score(
            one.value,
            _protocol(with_settings(name, one.metric.settings), generated, reference, extractor),
            higher_is_better=one.metric.higher_is_better(name),
            noise=one.noise,
        )
        for name, one in found.items()
    }


def _tell_pairs_of_other_names(generated: ImagesWithProgress, reference: ImagesWithProgress) -> None:
    """Warn where the order of the names, by which files are paired, pairs files whose names differ."""
    both = zip(generated.stems or (), reference.stems or (), strict=False)
    differing = [(one, other) for one, other in both if one != other]
    if differing:
        log.warning(
            "%d of the pairs have different names, the first: %s with %s; files are paired in the order of their names",
            len(differing), *differing[0],
        )  # fmt: skip


def _score_pairs(
    names: Sequence[PairMetricName], generated: Side, reference: Side, comparison: Comparison, ranks: Ranks
) -> dict[str, Score]:
    """Compute metrics of pairs: image i of one side with image i of the other, in the order of names. Collective."""
    if not (isinstance(generated, ImagesWithProgress) and isinstance(reference, ImagesWithProgress)):
        raise EvaluationError(f"{', '.join(names)}: needs images on both sides, not statistics")
    distances: dict[str, FeatureDistance] = {
        name: build_distance(name, ranks.device, weights=comparison.weights) for name in DISTANCES if name in names
    }
    if ranks.rank == 0:
        _tell_pairs_of_other_names(generated, reference)
    found = score_pairs(names, generated, reference, ranks, distances=distances, batch=comparison.batch)
    scores: dict[str, Score] = {}
    for name, value in found.items():
        network = distances.get(name)
        protocol = _protocol(name, generated, reference, network)
        suffix = f"_{network.short_name}" if network is not None and network.short_name else ""
        scores[f"{name}{suffix}"] = Score(value, protocol, higher_is_better=name in HIGHER_IS_BETTER)
    return scores


def _protocol(
    metric: str, generated: Side, reference: Side, network: Extractor | FeatureDistance | None
) -> ScoreProtocol:
    """Return how a score of two sides is made; of a generated reference its place is all that is known."""
    theirs = _about(reference)
    made = isinstance(generated, ImagesWithProgress) and generated.digest is None
    return ScoreProtocol(
        metric=metric,
        samples=_about(generated)["images"] or 0,
        quantisation=QUANTISATION if made else "as stored",
        reference=reference.digest or theirs["place"],
        reference_samples=theirs["images"],
        prior=generated.prior if isinstance(generated, ImagesWithProgress) else NO_PRIOR,
        **seen_by(network),
    )


@contextmanager
def _shown(side: Side) -> Iterator[None]:
    """Take a side's bar away in the end, and tell what was odd."""
    try:
        yield
    finally:
        if isinstance(side, ImagesWithProgress):
            side.done()


def _about(side: Side) -> dict[str, Any]:
    if isinstance(side, Published):
        return {"place": str(side.path), "images": side.moments.count or None, "layout": side.layout}
    return {"place": side.name, "images": len(side)}


def show(found: ComparisonResult) -> None:
    """Print scores as a table."""
    for side, about in (("generated", found.generated), ("reference", found.reference)):
        console.print(f"{side:10} {about['place']}  ({about['images'] or 'unknown number of'} images)", markup=False)
    for extractor, dtype, digest in dict.fromkeys(
        (one.protocol.extractor, one.protocol.dtype, one.protocol.weights_sha256) for one in found.scores.values()
    ):
        if extractor != "none":
            console.print(f"extractor  {extractor} {dtype}, weights {digest[:12]}", markup=False)
    console.print(score_table(found.scores))


def main(settings: Comparison | None = None) -> NoReturn:
    """Run as one of the ranks; without settings, by the words `key=value` of the command line."""
    settings = settings or settings_of_program(Comparison, "bigtrain.evaluation.fid")
    with as_one_of_the_ranks(answers_in_json=settings.as_json) as ranks:
        found = compare(settings, ranks)
        if is_rank_zero() and settings.as_json:
            print(json.dumps(found.as_json()))
        elif is_rank_zero():
            show(found)
    sys.exit(0)


if __name__ == "__main__":
    main()

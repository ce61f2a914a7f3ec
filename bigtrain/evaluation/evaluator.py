"""Score a generator against the training data, on all ranks together."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from bigtrain.core.config import Config, ConfigError, nearest
from bigtrain.core.crop import Size
from bigtrain.distributed.collectives import from_all_ranks, from_rank_zero
from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.distances import DISTANCES, check_distance
from bigtrain.evaluation.extraction import Stop, never
from bigtrain.evaluation.extractors import ExtractorName, build_extractor, check_extractor
from bigtrain.evaluation.extractors.base import FeatureDtype, check_field, suffix_of
from bigtrain.evaluation.image_pairs import PairMetricName
from bigtrain.evaluation.images.generated import GeneratedImages
from bigtrain.evaluation.images.shards import ShardImages
from bigtrain.evaluation.measuring import check_classes, check_metrics, measure
from bigtrain.evaluation.metrics import METRICS, MetricName, choose
from bigtrain.evaluation.metrics.base import Metric
from bigtrain.evaluation.protocol import Sampling, Score, ScoreProtocol, quantisation_of, seen_by, with_settings
from bigtrain.evaluation.published import load_published
from data_pipelines.batches import OnCorrupt
from data_pipelines.faults import FaultLog
from data_pipelines.manifest import IMAGE
from data_pipelines.read import ShardDataset


class ScoreConfig(Config):
    """Which scores are computed, and how.

    Attributes:
        metrics: metrics of the set of images, all computed in one pass.
        pairs: metrics that compare each output with its target, for tasks with targets: `psnr`, `ssim`, `lpips` (which
            needs weights, see docs/reference/metrics.md), `perceptual` (in features of EfficientNet-Lite0, whose
            weights are installed).
        samples: number of generated images.
        reference_samples: number of real images that they are compared with; null for all, of datasets with up to 2
            million.
        reference: `.npz` file of published statistics to compare with instead; null for the training images.
        extractor: network that computes the features: `inception-v3-compat`, `efficientnet-lite0`, `vgg16`, or
            `file:PATH` for a network of your own or a probe (`bigtrain probe train`); `values` for the numbers of an
            array themselves; `auto` is the first of them if its weights are available, and otherwise the second.
        weights: file of the extractor's weights, or its folder; null for $BIGTRAIN_WEIGHTS, then the cache.
        dtype: precision of the extractor; `bf16` changes scores by some percent and appears in the metric's name: use
            it for progress, not for reports.
        batch: number of images in a forward pass of the extractor.
        kid_subset_size: number of images in each of KID's subsets; null for the usual 1,000.
    """

    metrics: tuple[MetricName, ...] = ("fid",)
    pairs: tuple[PairMetricName, ...] = ()
    samples: PositiveInt = 50_000
    reference_samples: PositiveInt | None = None
    reference: str | None = None
    extractor: ExtractorName = "auto"
    weights: str | None = None
    dtype: FeatureDtype = "fp32"
    batch: PositiveInt = 32
    kid_subset_size: Annotated[int, Field(ge=2)] | None = None

    def values(self, outputs: Sequence[str]) -> list[str]:
        """Return the names of the values of all scores, with the output where there are several: `fid/A.image`."""
        names = [value for name in self.metrics for value in METRICS[name].values or (name,)] + list(self.pairs)
        return [f"{name}/{output}" for output in outputs for name in names] if len(outputs) > 1 else names

    def check_value(self, key: str, name: str, outputs: Sequence[str]) -> None:
        """Find out whether a value is among those of the scores.

        Args:
            key: of the config, for messages.
            name: of the value.
            outputs: what is scored.

        Raises:
            ConfigError: it is not.
        """
        values = self.values(outputs)
        if name not in values:
            raise ConfigError(f"{key} '{name}': the evaluation does not compute it" + nearest(name, values))

    @property
    def weights_path(self) -> Path | None:
        """Where the weights are; None for the usual places."""
        return Path(self.weights).expanduser() if self.weights else None

    def check_weights(self) -> None:
        """Find out whether the weights that the scores need are there.

        Raises:
            WeightsError, EvaluationError: they are missing or wrong.
        """
        weights = self.weights_path
        check_extractor(self.extractor, weights)
        for name in DISTANCES:
            if name in self.pairs:
                check_distance(name, weights)


class FullEvalConfig(ScoreConfig):
    """The scores for reports, which are computed rarely.

    Attributes:
        interval_kimg: thousands of training images between two of them; there is always one at the end of a run.
    """

    interval_kimg: NonNegativeFloat


class EvalConfig(ScoreConfig):
    """Which scores are computed during training, and how often.

    Attributes:
        interval_kimg: thousands of training images between two evaluations; 0 for never.
        full: a second, larger evaluation that is made rarely; null for none.
        max_share: maximum share of the run's time that evaluations may take: if they take longer, they are made less
            often. null always keeps to the intervals, so that the run does not depend on the machine's speed.
        best: value by which the best snapshot is chosen, such as `fid` or `recall`, or `fid/A.image` for tasks with
            several outputs; null for the first of `metrics`, of the first output.
    """

    interval_kimg: NonNegativeFloat
    full: FullEvalConfig | None = None
    max_share: Annotated[float, Field(gt=0, le=1)] | None = None
    best: str | None = None

    @property
    def kinds(self) -> tuple[ScoreConfig, ...]:
        """The evaluations that are made."""
        return tuple(one for one in (self, self.full) if one is not None and one.interval_kimg)

    @property
    def paired(self) -> bool:
        """Whether an evaluation compares outputs with their true targets."""
        return any(one.pairs for one in (self, self.full) if one is not None)

    @model_validator(mode="after")
    def _fits(self) -> "EvalConfig":
        keys = set(ScoreConfig.model_fields)
        if self.full is not None and self.full.model_dump(include=keys) == self.model_dump(include=keys):
            raise ValueError("full would compute exactly the same scores: set more samples, or leave it out")
        return self


class Evaluator:
    """Computes named metrics of generated images against the dataset.

    Args:
        config: which scores.
        dataset: the reference.
        ranks: who shares the work.
        field: of the dataset's samples, which generated ones are compared with.
        size: height and width that is cut out of the middle of the dataset's images; None for all of them.
        on_corrupt: what to do with damaged reference images.
        faults: where they are listed.
        suffix: of the names of scores and their metrics, where there are scores of several outputs.

    Raises:
        EvaluationError: the metrics cannot be computed so.
    """

    def __init__(
        self,
        config: ScoreConfig,
        dataset: ShardDataset,
        ranks: Ranks,
        *,
        field: str = IMAGE,
        size: Size | None = None,
        on_corrupt: OnCorrupt = "fail",
        faults: FaultLog | None = None,
        suffix: str = "",
    ) -> None:
        self._config, self._ranks, self._suffix = config, ranks, suffix
        self._images = ShardImages(
            dataset, config.reference_samples, field=field, size=size, on_corrupt=on_corrupt, faults=faults
        )
        self._digest = self._images.digest
        self._published = load_published(config.reference) if config.reference else None
        self._extractor = build_extractor(config.extractor, config.dtype, ranks.device, weights=config.weights_path)
        self._metrics = choose(config.metrics, kid_subset_size=config.kid_subset_size)
        check_field(self._extractor, self._images.spec, field)
        check_classes(self._extractor, self._metrics, self._images.classes)
        check_metrics(self._metrics, self._published or self._images, config.samples, self._extractor)

    def run(self, images: GeneratedImages, sampling: Sampling, *, stop: Stop = never) -> dict[str, Score]:
        """Score generated images. Collective.

        Args:
            images: as many as the config says.
            sampling: how they are made.
            stop: tells whether this process was asked to stop.

        Returns:
            Scores by their full names, such as `eval/fid5k_full_efflite0`; the same on every rank.

        Raises:
            Interrupted: a rank was asked to stop.
        """
        reference, batch = self._published or self._images, self._config.batch
        found = measure(self._metrics, reference, images, self._extractor, self._ranks, batch=batch, stop=stop)
        replaced = self.replaced
        scores = {
            self._full_name(name): Score(
                one.value,
                self._protocol(name, one.metric, sampling, replaced),
                higher_is_better=one.metric.higher_is_better(name),
                noise=one.noise,
            )
            for name, one in found.items()
        }
        # Nodes may differ in the last digits, and what hangs on a score must be decided once.
        return from_rank_zero(scores)

    @property
    def replaced(self) -> int:
        """Damaged reference images that others stand in for, over all ranks. Collective."""
        return sum(map(len, from_all_ranks(self._images.replaced)))

    def _protocol(self, name: str, metric: Metric, sampling: Sampling, replaced: int) -> ScoreProtocol:
        published = self._published
        digest = f"{self._digest}, {replaced} replaced" if replaced else self._digest
        return ScoreProtocol(
            metric=with_settings(f"{name}{self._suffix}", metric.settings),
            samples=self._config.samples,
            quantisation=quantisation_of(self._images.spec),
            reference=published.digest if published else digest,
            reference_samples=(published.moments.count or None) if published else len(self._images),
            **seen_by(self._extractor),
            **asdict(sampling),
        )

    def _full_name(self, name: str) -> str:
        """Return a score's name with sample count, reference, extractor and precision."""
        full = "_full" if self._config.reference_samples is None else ""
        return f"eval/{name}{_short(self._config.samples)}{full}{suffix_of(self._extractor)}{self._suffix}"


def _short(count: int) -> str:
    return f"{count // 1000}k" if count % 1000 == 0 else str(count)

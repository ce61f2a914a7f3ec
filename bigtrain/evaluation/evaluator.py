"""Score a generator against the training data, on all ranks together."""

from collections.abc import Callable

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from bigtrain.core.alpha import opaque
from bigtrain.core.config import Config
from bigtrain.core.rng import Draws
from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.cache import cached_moments
from bigtrain.evaluation.extractors import ExtractorName, FeatureDtype, build_extractor
from bigtrain.evaluation.metrics.fid import frechet_distance
from bigtrain.evaluation.moments import Moments, MomentSums
from data_pipelines.order import SampleOrder
from data_pipelines.read import ShardDataset


class EvalConfig(Config):
    """Which score, how often.

    Attributes:
        interval_kimg: thousands of training images between two evaluations; 0 for never.
        samples: generated images.
        reference_samples: real images that they are compared with; null for all.
        extractor: network that makes the features.
        dtype: its precision; `bf16` moves scores by some percent and is named in the metric: for progress, not reports.
        batch: images a forward of the extractor.
    """

    interval_kimg: NonNegativeFloat
    samples: PositiveInt = 50_000
    reference_samples: PositiveInt | None = None
    extractor: ExtractorName = "efficientnet-lite0"
    dtype: FeatureDtype = "fp32"
    batch: PositiveInt = 32


class Evaluator:
    """Computes the Fréchet distance between generated images and the dataset.

    Args:
        config: which score.
        dataset: the reference.
        seed: of the latents and labels; image i is the same on any number of ranks.
        ranks: who shares the work.
    """

    def __init__(self, config: EvalConfig, dataset: ShardDataset, *, seed: int, ranks: Ranks) -> None:
        self._config, self._dataset, self._seed, self._ranks = config, dataset, seed, ranks
        self._extractor = build_extractor(config.extractor, config.dtype, ranks.device)

    @property
    def metric(self) -> str:
        """The score's name with sample count, reference, extractor and precision: `eval/fid5k_full_efflite0`."""
        full = "_full" if self._config.reference_samples is None else ""
        dtype = "" if self._config.dtype == "fp32" else f"_{self._config.dtype}"
        return f"eval/fid{_short(self._config.samples)}{full}_{self._extractor.short_name}{dtype}"

    @torch.inference_mode()
    def run(self, generate: Callable[[Draws], Tensor]) -> dict[str, float]:
        """Score a generator. Collective.

        Args:
            generate: maps draws of n samples to n images around [-1, 1], shape [n, C, H, W].

        Returns:
            The score by its name.
        """
        reference = self._reference()

        def fakes(index: Tensor) -> Tensor:
            return to_uint8(generate(Draws(self._seed, index.to(self._ranks.device), "eval")))

        return {self.metric: frechet_distance(reference, self._moments(self._config.samples, fakes))}

    def _reference(self) -> Moments:
        manifest = self._dataset.manifest
        count = min(self._config.reference_samples or manifest.count, manifest.count)
        order = SampleOrder([shard.count for shard in manifest.shards], seed=0)

        def reals(index: Tensor) -> Tensor:
            images, _ = self._dataset.read([order.locate(position) for position in index.tolist()])
            return torch.from_numpy(images)

        ingredients: dict[str, str | int] = {
            "data": manifest.digest,
            "samples": count,
            "weights": self._extractor.weights_sha256,
            "preprocessing": self._extractor.preprocessing,
            "dtype": self._config.dtype,
        }
        return cached_moments(ingredients, lambda: self._moments(count, reals))

    def _moments(self, count: int, images: Callable[[Tensor], Tensor]) -> Moments:
        """Extract features of images 0 .. count - 1, each on exactly one rank, and add up their moments."""
        sums = MomentSums(self._extractor.features, self._ranks.device)
        mine = torch.arange(self._ranks.rank, count, self._ranks.world_size)
        for index in torch.split(mine, self._config.batch):
            sums.add(self._extractor(opaque(images(index).to(self._ranks.device))))
        return sums.over_ranks()


def to_uint8(image: Tensor) -> Tensor:
    """Quantise images from [-1, 1] to uint8, rounding to the nearest and clamping."""
    return ((image.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _short(count: int) -> str:
    return f"{count // 1000}k" if count % 1000 == 0 else str(count)

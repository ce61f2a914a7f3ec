"""Score outputs against the true targets of the same samples."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bigtrain.distributed.collectives import from_rank_zero
from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.distances import DISTANCES, FeatureDistance, build_distance
from bigtrain.evaluation.image_pairs import HIGHER_IS_BETTER, PairMetricName, score_pairs
from bigtrain.evaluation.images import Images
from bigtrain.evaluation.images.generated import GeneratedImages, GenerateImages
from bigtrain.evaluation.protocol import QUANTISATION, Sampling, Score, ScoreProtocol, seen_by


class PairEvaluator:
    """Computes metrics of pairs: output i beside target i.

    Args:
        names: which.
        targets: of the samples whose inputs are given, in their order.
        ranks: who shares the work.
        weights: folder of LPIPS's weights; None for where `find_weights` looks.
        batch: pairs at once.
        suffix: of the names of scores and their metrics, where there are scores of several outputs.

    Raises:
        WeightsError: a distance is asked for, and its weights are missing.
    """

    def __init__(
        self,
        names: Sequence[PairMetricName],
        targets: Images,
        ranks: Ranks,
        *,
        weights: Path | None = None,
        batch: int = 32,
        suffix: str = "",
    ) -> None:
        self._suffix = suffix
        self._names, self._targets, self._ranks, self._batch = names, targets, ranks, batch
        self._distances: dict[str, FeatureDistance] = {
            name: build_distance(name, ranks.device, weights=weights) for name in DISTANCES if name in names
        }

    def run(self, generate: GenerateImages, sampling: Sampling, *, seed: int) -> dict[str, Score]:
        """Score outputs. Collective.

        Args:
            generate: makes output i from input i.
            sampling: how it does that.
            seed: of its draws.

        Returns:
            Scores by their full names, such as `eval/psnr`; the same on every rank.
        """
        count = len(self._targets)
        made = GeneratedImages(generate, count, seed=seed, device=self._ranks.device)
        found = score_pairs(self._names, made, self._targets, self._ranks, distances=self._distances, batch=self._batch)
        return from_rank_zero(dict(self._score(name, found[name], sampling) for name in self._names))

    def _score(self, name: PairMetricName, value: float, sampling: Sampling) -> tuple[str, Score]:
        network = self._distances.get(name)
        suffix = f"_{network.short_name}" if network is not None and network.short_name else ""
        protocol = ScoreProtocol(
            metric=f"{name}{self._suffix}",
            samples=len(self._targets),
            quantisation=QUANTISATION,
            reference=self._targets.digest or self._targets.name,
            reference_samples=len(self._targets),
            **seen_by(network),
            **asdict(sampling),
        )
        key = f"eval/{name}{suffix}{self._suffix}"
        return key, Score(value, protocol, higher_is_better=name in HIGHER_IS_BETTER)

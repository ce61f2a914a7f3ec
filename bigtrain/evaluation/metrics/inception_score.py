"""Inception Score (Salimans et al. 2016, section 4): sure of each image's class, and many classes."""

from bigtrain.evaluation.metrics.base import Metric, Need, Scores
from bigtrain.evaluation.statistics.class_scores import SPLITS, ClassScores, ClassScoreSums


def inception_scores(scores: ClassScores) -> list[float]:
    """Return exp(E KL(p(y|x) || p(y))) of each split."""
    mean = scores.probability / scores.images[:, None]
    divergence = scores.negative_entropy / scores.images - (mean * mean.clamp(min=1e-300).log()).sum(1)
    values: list[float] = divergence.exp().tolist()
    return values


def _score(reference: None, generated: ClassScores) -> Scores:
    values = inception_scores(generated)
    mean = sum(values) / SPLITS
    deviation = (sum((value - mean) ** 2 for value in values) / SPLITS) ** 0.5
    return {"inception_score": mean, "inception_score_std": deviation}


INCEPTION_SCORE = Metric(Need("logits", ClassScoreSums), _score, least=SPLITS, better="higher", compares=False)

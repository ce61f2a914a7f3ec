"""Distances between point clouds, and scores of sets of these, against what is known of simple clouds."""

from itertools import permutations

import numpy as np
import pytest
import torch

from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.extractors import build_extractor
from bigtrain.evaluation.extractors.base import Extractor, check_field
from bigtrain.evaluation.measuring import check_metrics
from bigtrain.evaluation.metrics import METRICS
from bigtrain.evaluation.metrics.point_clouds import (
    ASSIGNED_POINTS,
    MOST_CLOUDS,
    chamfer_distances,
    earth_movers_distances,
    set_scores,
)
from bigtrain.evaluation.statistics.features import Features
from data_pipelines.fields.spec import FieldSpec

CPU = torch.device("cpu")
RNG = np.random.default_rng(3)
CLOUD = FieldSpec("array", (5, 3), "float32")


def values_of(spec: FieldSpec) -> Extractor:
    extractor = build_extractor("values", "fp32", CPU)
    check_field(extractor, spec, "points")
    return extractor


def test_chamfer_distances_are_those_of_the_definition(alone: None) -> None:
    clouds = RNG.standard_normal((4, 7, 3))
    squared = np.square(clouds[:, None, :, None] - clouds[None, :, None]).sum(-1)
    expected = squared.min(3).mean(2) + squared.min(2).mean(2)
    assert chamfer_distances(clouds).numpy() == pytest.approx(expected, abs=1e-12)


def test_earth_movers_distances_are_those_of_the_best_assignment(alone: None) -> None:
    clouds = RNG.standard_normal((3, 5, 3))
    lengths = np.linalg.norm(clouds[:, None, :, None] - clouds[None, :, None], axis=-1)
    expected = [
        [min(lengths[i, j][range(5), order].mean() for order in map(list, permutations(range(5)))) for j in range(3)]
        for i in range(3)
    ]
    assert earth_movers_distances(clouds).numpy() == pytest.approx(np.array(expected), abs=1e-12)


def test_large_clouds_are_compared_by_some_of_their_points(alone: None) -> None:
    cloud = np.concatenate([np.zeros((2 * ASSIGNED_POINTS, 3)), np.ones((2 * ASSIGNED_POINTS, 3))])
    away = float(earth_movers_distances(np.stack([cloud, cloud + np.array([3, 0, 0])]))[0, 1])
    assert away == pytest.approx(3, abs=0.1), "the choice has about as many points of either end"


def test_scores_of_sets_tell_good_copied_and_collapsed_ones_apart(alone: None) -> None:
    middles = torch.from_numpy(RNG.uniform(-1, 1, (60, 1, 3)))

    def clouds(centres: torch.Tensor) -> torch.Tensor:
        return (centres + 0.01 * torch.from_numpy(RNG.standard_normal((len(centres), 5, 3)))).flatten(1).float()

    real = clouds(middles[:30])
    sets = {"good": clouds(middles[30:]), "copied": real, "collapsed": clouds(middles[:1].expand(30, 1, 3))}
    for name in ("chamfer", "emd"):
        metric = METRICS[name]
        found = {key: metric.score(Features.unlabelled(real), Features.unlabelled(rows)) for key, rows in sets.items()}
        assert all(scores.keys() == set(metric.values) for scores in found.values())
        mmd, coverage, nna = ({key: scores[value] for key, scores in found.items()} for value in metric.values)
        assert mmd["copied"] == pytest.approx(0, abs=1e-9)
        assert mmd["good"] < mmd["collapsed"] / 2
        assert coverage["copied"] == 1
        assert coverage["collapsed"] < 0.2 < coverage["good"]
        assert nna["copied"] == 0
        assert nna["good"] < 0.75 < nna["collapsed"]


def test_the_accuracy_of_neighbours_is_that_of_equally_many_clouds() -> None:
    place = torch.tensor([0.0, 10.0, 0.1, 10.1, 20.0, 20.1], dtype=torch.float64)
    found = set_scores((place[:, None] - place).abs(), real=2)
    assert found == {"mmd": pytest.approx(0.1), "coverage": 1.0, "1nna": 0.0}


def test_of_which_value_more_is_better() -> None:
    assert [METRICS["emd"].higher_is_better(value) for value in METRICS["emd"].values] == [False, True, False]
    assert METRICS["density_coverage"].higher_is_better("density")


def test_values_are_the_numbers_themselves() -> None:
    extractor = values_of(CLOUD)
    assert extractor.layers == {"pool": 15, "points": 15}
    points = torch.randn(2, 5, 3)
    assert extractor(points, ["points"])["points"].tolist() == points.flatten(1).tolist()
    assert values_of(FieldSpec("array", (4,), "int16")).layers == {"pool": 4}


def test_what_cannot_be_compared_is_named() -> None:
    metrics = {"chamfer": METRICS["chamfer"]}
    with pytest.raises(EvaluationError, match=r"'points' is image"):
        values_of(FieldSpec("image", (3, 8, 8), "uint8"))
    other = values_of(FieldSpec("array", (4,), "float32"))
    with pytest.raises(EvaluationError, match="values offers pool; use the extractor 'values', for point clouds"):
        check_metrics(metrics, None, 3, other)  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="at most 2,000 samples of each side, the generator has 2,001: set eval"):
        check_metrics(metrics, None, MOST_CLOUDS + 1, values_of(CLOUD))  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="give no weights"):
        build_extractor("values", "fp32", CPU, weights=CPU)  # type: ignore[arg-type]

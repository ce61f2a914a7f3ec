"""Classes of two sets are matched by name, and a set is at no distance from itself."""

import pytest
import torch

from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.class_names import OtherClassesError, match_classes
from bigtrain.evaluation.measuring import measure
from bigtrain.evaluation.metrics import METRICS, choose

CPU = torch.device("cpu")


class Values:
    """Images whose only pixel depends on their class."""

    name, digest, faults = "values", None, ()

    def __init__(self, classes: tuple[str, ...], seed: int = 0) -> None:
        self.classes = classes
        self.random = torch.randint(0, 40, (24, 3, 1, 1), generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return 24

    def read(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        label = index % len(self.classes)
        hue = torch.tensor([60 * sorted(self.classes).index(name) for name in self.classes])[label]
        return (self.random[index] + hue[:, None, None, None]).to(torch.uint8), label


class Colours:
    name, short_name, preprocessing, dtype, weights_sha256 = "mean", "mean", "none", "fp32", "0"
    layers = {"pool": 3}  # noqa: RUF012

    def __call__(self, image: torch.Tensor, layers: object = ()) -> dict[str, torch.Tensor]:
        return {"pool": image.float().mean((2, 3))}


def scores(names: tuple[str, ...], one: Values, other: Values) -> dict[str, float]:
    metrics = choose(names, kid_subset_size=8)
    found = measure(metrics, one, other, Colours(), Ranks(0, 1, 0, CPU), batch=8)  # type: ignore[arg-type]
    return {name: value.value for name, value in found.items()}


def test_scores_of_classes_say_which_and_follow_the_names(alone: None) -> None:
    real, fake = Values(("cat", "dog", "fox")), Values(("fox", "cat", "dog"), seed=1)
    found = scores(("class_fid",), real, fake)
    assert list(found) == ["class_fid_cat_", "class_fid_dog_", "class_fid_fox_"]
    assert max(found.values()) < 2000, (
        "the same classes in another order: those of other classes lie 60 apart in each colour"
    )
    with pytest.raises(OtherClassesError, match="have different classes: cow, hen in one, dog, fox in the other"):
        scores(("intra_fid",), real, Values(("cat", "cow", "hen")))


def test_classes_without_names_keep_their_numbers() -> None:
    assert match_classes(("0", "1", "10", "2"), ("0", "1", "2", "10"), "a", "b") == [0, 1, 3, 2]
    assert match_classes(("0", "1"), ("cat", "dog"), "an imported model", "b") is None
    assert match_classes((), ("cat", "dog"), "a", "b") is None
    with pytest.raises(OtherClassesError, match="a has several classes called crane"):
        match_classes(("crane", "crane"), ("crane", "crane"), "a", "b")
    with pytest.raises(OtherClassesError):
        match_classes(("0", "1", "2"), ("cat", "dog"), "a", "b")


def test_a_set_is_at_no_distance_from_itself(alone: None) -> None:
    distances = tuple(name for name, metric in METRICS.items() if metric.is_distance and metric.need.layer == "pool")
    assert set(distances) >= {"fid", "kid", "mmd", "intra_fid", "class_fid"}
    one = Values(("cat", "dog"))
    assert set(scores(distances, one, Values(("cat", "dog"))).values()) == {0.0}
    other = scores(("fid", "mmd", "intra_fid"), one, Values(("cat", "dog"), seed=1))
    assert all(value >= 0 for value in other.values())

import torch

from bigtrain.core.batch import Batch
from bigtrain.core.rng import Draws


def batch(count: int = 6) -> Batch:
    images = torch.arange(count * 4, dtype=torch.float32).reshape(count, 1, 2, 2)
    return Batch({"image": images, "class": torch.arange(count)}, Draws(3, torch.arange(100, 100 + count), "data"))


def test_micro_batches_are_slices_of_all_fields_with_their_own_draws() -> None:
    whole = batch()
    parts = list(whole.micro_batches(2))
    assert [last for _, last in parts] == [False, False, True]
    for name in ("image", "class"):
        assert torch.equal(torch.cat([part[name] for part, _ in parts]), whole[name])
    assert torch.equal(torch.cat([part.draws.normal(3) for part, _ in parts]), whole.draws.normal(3))


def test_neighbours_stay_in_one_group_however_the_batch_is_cut() -> None:
    whole = batch(12)

    def groups(size: int) -> set[frozenset[int]]:
        parts = [part.label().reshape(3, -1) for part, _ in whole.micro_batches(size, 3)]
        return {frozenset(column.tolist()) for part in parts for column in part.t()}

    assert groups(3) == groups(6) == groups(12) == {frozenset(range(first, first + 3)) for first in (0, 3, 6, 9)}
    part, _ = next(whole.micro_batches(6, 3))
    assert torch.equal(part.draws.index, 100 + part.label())
    assert torch.equal(part["image"][:, 0, 0, 0], whole["image"][part.label(), 0, 0, 0])


def test_samples_without_classes_have_the_label_0() -> None:
    unlabelled = Batch({"image": torch.zeros(3, 1, 2, 2)}, Draws(0, torch.arange(3)))
    assert unlabelled.label().tolist() == [0, 0, 0]
    assert batch(3).label().tolist() == [0, 1, 2]

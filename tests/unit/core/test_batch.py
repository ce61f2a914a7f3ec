import torch

from bigtrain.core.batch import Batch


def batch(count: int = 6) -> Batch:
    images = torch.arange(count * 4, dtype=torch.uint8).reshape(count, 1, 2, 2)
    return Batch.from_host(
        images, torch.arange(count), torch.arange(100, 100 + count), seed=3, device=torch.device("cpu")
    )


def test_pixels_become_minus_one_to_one() -> None:
    images = torch.tensor([[[[0, 255], [51, 204]]]], dtype=torch.uint8)
    one = Batch.from_host(images, torch.tensor([0]), torch.tensor([0]), seed=0, device=torch.device("cpu"))
    torch.testing.assert_close(one.real, torch.tensor([[[[-1.0, 1.0], [-0.6, 0.6]]]]))


def test_micro_batches_are_slices_with_their_own_draws() -> None:
    whole = batch()
    parts = list(whole.micro_batches(2))
    assert [last for _, last in parts] == [False, False, True]
    assert torch.equal(torch.cat([part.real for part, _ in parts]), whole.real)
    assert torch.equal(torch.cat([part.label for part, _ in parts]), whole.label)
    assert torch.equal(torch.cat([part.draws.normal(3) for part, _ in parts]), whole.draws.normal(3))


def test_neighbours_stay_in_one_group_however_the_batch_is_cut() -> None:
    whole = batch(12)

    def groups(size: int) -> set[frozenset[int]]:
        parts = [part.label.reshape(3, -1) for part, _ in whole.micro_batches(size, 3)]
        return {frozenset(column.tolist()) for part in parts for column in part.t()}

    assert groups(3) == groups(6) == groups(12) == {frozenset(range(first, first + 3)) for first in (0, 3, 6, 9)}
    part, _ = next(whole.micro_batches(6, 3))
    assert torch.equal(part.draws.index, 100 + part.label)
    assert torch.equal(part.real[:, 0, 0, 0], whole.real[part.label, 0, 0, 0])


def random_batch(**options) -> Batch:
    images = torch.arange(1000 * 2, dtype=torch.uint8).reshape(1000, 1, 1, 2)
    return Batch.from_host(
        images, torch.ones(1000, dtype=torch.int64), torch.arange(1000), seed=3, device=torch.device("cpu"), **options
    )


def test_half_of_the_images_are_mirrored() -> None:
    plain, flipped = random_batch(), random_batch(flip=True)
    mirrored = (flipped.real != plain.real).flatten(1).any(1)
    assert 400 < mirrored.sum() < 600
    assert torch.equal(flipped.real[mirrored], plain.real[mirrored].flip(3))
    assert torch.equal(random_batch(flip=True).real, flipped.real)  # a function of seed and position


def test_labels_are_dropped_in_the_share_asked_for() -> None:
    dropped = random_batch(label_dropout=0.2).label == -1
    assert 150 < dropped.sum() < 250
    assert (random_batch(label_dropout=1.0).label == -1).all()
    assert torch.equal(random_batch().label, torch.ones(1000, dtype=torch.int64))

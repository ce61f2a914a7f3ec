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

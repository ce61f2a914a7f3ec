"""Tensors on their way to the host."""

from collections.abc import Iterator

import torch

from bigtrain.core.to_host import ToHost, one_behind


def test_a_tensor_arrives() -> None:
    assert ToHost(torch.arange(3)).wait().tolist() == [0, 1, 2]


def test_each_is_handed_on_when_the_next_is_under_way() -> None:
    begun: list[int] = []

    def work() -> Iterator[torch.Tensor]:
        for number in range(3):
            begun.append(number)
            yield torch.tensor(number)

    seen = [(int(found), len(begun)) for found in one_behind(work())]
    assert seen == [(0, 2), (1, 3), (2, 3)]
    assert list(one_behind([])) == []

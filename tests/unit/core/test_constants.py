import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from bigtrain.core.constants import constant


def test_is_made_once_and_never_without_content() -> None:
    made = []

    @constant
    def ones(size: int) -> Tensor:
        made.append(size)
        return torch.ones(size)

    with FakeTensorMode():
        assert ones(2).shape == (2,)
    assert ones(2).sum().item() == 2.0
    assert ones(2) is ones(2) and ones(3).shape == (3,)
    assert made == [2, 2, 3]

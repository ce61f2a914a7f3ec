"""Tensors that never change, made and sent to their device once."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

P = ParamSpec("P")


def constant(make: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Remember what a function of hashable arguments makes.

    Tensors without content (those of a plan, under FakeTensorMode) are not kept: they would stand in for real ones.
    """
    made: dict[object, Tensor] = {}

    @wraps(make)
    def remembered(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        key = (args, tuple(sorted(kwargs.items())))
        if key not in made:
            tensor = make(*args, **kwargs)
            if isinstance(tensor, FakeTensor):
                return tensor
            made[key] = tensor
        return made[key]

    return remembered

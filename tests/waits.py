"""Finds what a GPU would be waited for."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

ASKS = {
    torch.ops.aten._local_scalar_dense,  # item(), bool(), float(), tolist()
    torch.ops.aten.equal,
    torch.ops.aten.is_nonzero,
    torch.ops.aten.masked_select,
    torch.ops.aten.nonzero,
    torch.ops.aten.repeat_interleave,
    torch.ops.aten.unique_consecutive,
}


class Waits(TorchDispatchMode):
    """Counts what a GPU would have to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_mask = operator.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put) and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if operator.overloadpacket in ASKS or by_mask:
            self.found.append(str(operator))
        return operator(*args, **(kwargs or {}))

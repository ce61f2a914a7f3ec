"""Floating-point operations of PyTorch's operators, by the formulas of its `FlopCounterMode`.

That mode itself hooks modules, which `autograd.grad` inside of a loss does not bear.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_aten = torch.ops.aten
_SAME_AS = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _aten._scaled_dot_product_flash_attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _aten._scaled_dot_product_flash_attention_backward,
}
"""Operators that torch has no formula for, and what they compute."""


def operations(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> int:
    """Return the floating-point operations of a call, by torch's formulas; 0 where it has none.

    Torch's counts a grouped convolution's gradient by the weight as if there were no groups: that one is our own.
    """
    packet = _SAME_AS.get(operator.overloadpacket, operator.overloadpacket)
    if packet is _aten.convolution_backward and args[9] > 1:
        grad, image, weight, transposed, wanted = args[0], args[1], args[2], args[7], args[10]
        places = (image if transposed else grad).shape[2:].numel()
        return int(2 * len(image) * places * weight.numel() * (wanted[0] + wanted[1]))
    formula = flop_registry.get(packet)
    return int(formula(*args, **kwargs, out_val=result)) if formula else 0


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations of what is computed inside, for benchmarks; a training's own steps are not watched.

    Attributes:
        flops: so far.
    """

    flops = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operator, and add its operations."""
        result = operator(*args, **(kwargs or {}))
        self.flops += operations(operator, args, kwargs or {}, result)
        return result

"""Islands of full precision inside of mixed precision."""

import contextlib
from typing import Any

import torch


def outside_autocast(device_type: str) -> contextlib.AbstractContextManager[Any]:
    """Compute in the precision of the operands, whatever surrounds it.

    Without autocast around, it leaves no trace: exporters of programs do not know how to write it down.
    """
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()

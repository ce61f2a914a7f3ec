"""Moving averages of scalars that losses observe, equal on all ranks and saved in checkpoints."""

import torch
from torch import Tensor

from bigtrain.core.state import State
from bigtrain.distributed.collectives import sum_over_ranks


class Averages:
    """Exponential moving averages of named scalars, all zero at first.

    During a step every micro-batch sees the averages as they were before it; what it observes counts after the step,
    over all ranks. So an average depends neither on accumulation nor on the number of ranks.

    Args:
        device: where the values live.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._values: dict[str, Tensor] = {}
        self._observed: dict[str, tuple[Tensor, float]] = {}

    def __getitem__(self, name: str) -> Tensor:
        """Return an average, float32, shape []."""
        value = self._values.get(name)
        return torch.zeros((), device=self._device) if value is None else value.float()

    def observe(self, name: str, values: Tensor, *, decay: float) -> None:
        """Take note of some values; all ranks must observe the same names in a step."""
        total = values.detach().double().sum()
        seen = torch.stack([total, torch.full_like(total, values.numel())])
        before = self._observed[name][0] if name in self._observed else 0.0
        self._observed[name] = (seen + before, decay)

    def move(self) -> None:
        """Move each average towards the mean of what was observed in the step. Collective."""
        if not self._observed:
            return
        names = sorted(self._observed)
        totals = sum_over_ranks(torch.stack([self._observed[name][0] for name in names]))
        for name, (total, count) in zip(names, totals, strict=True):
            value = self._values.get(name, torch.zeros_like(total))
            self._values[name] = value.lerp(total / count, 1 - self._observed[name][1])
        self._observed = {}

    def state_dict(self) -> State:
        """See Stateful."""
        return dict(self._values)

    def load_state_dict(self, state: State) -> None:
        """See Stateful."""
        self._values = {name: value.to(self._device) for name, value in state.items()}

"""What the weights alone tell: which units stand still, and how large the matrices have become."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.core.state import State

_ITERATIONS = 3
"""Power iterations a reading, each reading going on from the vector of the one before."""
_LEAST_UNITS = 8
"""Smaller layers have no share of dead units worth speaking of: an output of 3 colours, a single logit."""


class WeightProbe:
    """Compares the weights with those of the reading before; it costs a few matrix-vector products."""

    def __init__(self) -> None:
        self._biases: dict[str, Tensor] = {}
        self._vectors: dict[str, Tensor] = {}

    @torch.no_grad()
    def read(self, parameters: Iterable[tuple[str, Tensor]]) -> dict[str, float]:
        """Measure all layers.

        Args:
            parameters: whole, by names such as `D.blocks.0.conv1.bias`.

        Returns:
            `still/<bias>`: share of its units that have not moved since the last reading;
            `sigma/<weight>`: largest singular value of the weight as a matrix of one row a unit.
        """
        found: dict[str, Tensor] = {}
        for name, tensor in parameters:
            if tensor.ndim == 1 and name.endswith("bias") and len(tensor) >= _LEAST_UNITS:
                before = self._biases.get(name)
                if before is not None:
                    found[f"still/{name}"] = (tensor == before.to(tensor.device)).double().mean()
                self._biases[name] = tensor.detach().clone()
            elif tensor.ndim >= 2:
                found[f"sigma/{name}"] = self._largest_singular_value(name, tensor)
        if not found:
            return {}
        numbers: list[float] = torch.stack([value.double() for value in found.values()]).tolist()
        return dict(zip(found, numbers, strict=True))

    def state_dict(self) -> State:
        """See Stateful."""
        return {"biases": self._biases, "vectors": self._vectors}

    def load_state_dict(self, state: State) -> None:
        """See Stateful."""
        self._biases, self._vectors = dict(state["biases"]), dict(state["vectors"])

    def _largest_singular_value(self, name: str, weight: Tensor) -> Tensor:
        matrix = weight.detach().float().flatten(1)
        left = self._vectors.get(name)
        left = matrix.new_ones(len(matrix)) if left is None else left.to(matrix.device)
        for _ in range(_ITERATIONS):
            right = F.normalize(matrix.t() @ left, dim=0)
            left = F.normalize(matrix @ right, dim=0)
        self._vectors[name] = left
        return left @ matrix @ right

"""What a golden folder's numbers are computed from, and what each family of networks says of them."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from bigtrain.interop.errors import InteropError
from bigtrain.interop.golden import Golden


class Quantities(ABC):
    """All numbers that the golden folders of one family may hold, computed by our networks.

    Args:
        golden: the networks and their inputs.
        device: moves them there.

    Attributes:
        inputs: the names in `io.safetensors` that are inputs.
    """

    inputs: frozenset[str]

    def __init__(self, golden: Golden, device: torch.device) -> None:
        self._golden = golden
        for network in golden.networks.values():
            network.to(device).to(memory_format=torch.channels_last)
        self._io = {name: value.to(device) for name, value in golden.io.items() if name in self.inputs}

    @abstractmethod
    def output(self, name: str) -> Tensor | None:
        """Compute what `io.safetensors` calls `name` and is compared on its own scale; None if there is no such."""

    def penalty(self, name: str) -> Tensor | None:
        """Compute what `io.safetensors` calls `name` and is compared relatively; None if there is no such."""
        return None

    @abstractmethod
    def loss(self, name: str) -> Tensor | None:
        """Compute what `config.json` names after `grad_norm_` or `loss_`; None if there is no such."""

    def network_of(self, loss: str) -> tuple[str, nn.Module]:
        """Return the network by whose parameters a loss is differentiated, after its part's name.

        Raises:
            InteropError: there is none of this name.
        """
        parts = [part for part in self._golden.networks if loss == part or loss.startswith(f"{part}_")]
        part = max(parts, key=len, default=loss.partition("_")[0])
        return part, self.network(part)

    def network(self, part: str) -> nn.Module:
        """Return a network by its part's name.

        Raises:
            InteropError: there is none.
        """
        if part not in self._golden.networks:
            raise InteropError(f"there is no network {part}")
        return self._golden.networks[part]

    def given(self, name: str) -> Tensor:
        """Return an input.

        Raises:
            InteropError: it is missing.
        """
        if name not in self._io:
            raise InteropError(f"io.safetensors lacks '{name}'")
        return self._io[name]

    def setting(self, name: str) -> Any:
        """Return a setting.

        Raises:
            InteropError: it is missing.
        """
        if name not in self._golden.settings:
            raise InteropError(f"config.json: config lacks '{name}'")
        return self._golden.settings[name]

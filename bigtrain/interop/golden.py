"""A folder of golden numbers: a reference's settings, weights, inputs and outputs."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bigtrain.interop.errors import InteropError
from bigtrain.interop.load import build_networks
from bigtrain.interop.peers import PEERS, Rename

_HOW_THEY_WERE_MADE = {
    *("seed", "batch", "modes", "r1_gamma", "gamma"),
    *("n_fft", "win_size", "sampling_rate", "fmin", "fmax", "fmax_for_loss"),
    *("d_channels_divided_by", "d_channels_at_most"),
    *("lambda_L1", "lambda_A", "lambda_B", "lambda_identity", "gan_mode", "pool_size"),
}
"""Settings that say how the numbers were made, and nothing of the networks."""


@dataclass(frozen=True)
class Golden:
    """A folder's content, and the networks with its weights.

    Attributes:
        document: `config.json`; empty for a folder of image transforms, which has no networks.
        io: inputs and outputs by name.
        networks: by their parts (`G` and `D`, for example), in evaluation mode.
        renames: how the reference's names of a part's parameters and buffers lead to ours.
    """

    document: Mapping[str, Any]
    io: Mapping[str, Tensor]
    networks: Mapping[str, nn.Module]
    renames: Mapping[str, Rename]

    @property
    def settings(self) -> Mapping[str, Any]:
        """The networks' settings and how the numbers were made, in the reference's own words."""
        settings: Mapping[str, Any] = self.document.get("config", {})
        return settings


def read_golden(folder: Path) -> Golden:
    """Read a folder and build its networks.

    Raises:
        InteropError: something is missing, damaged or not understood, or the weights do not fit.
    """
    if not folder.is_dir():
        raise InteropError(f"{folder}: no such folder")
    io = _tensors(folder / "io.safetensors")
    if "images" in io and not (folder / "config.json").exists() and not (folder / "weights.safetensors").exists():
        return Golden({}, io, {}, {})
    try:
        document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        name, settings = document["peer"], _Consulted(document["config"])
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise InteropError(f"{folder / 'config.json'}: missing or damaged ({error!r})") from None
    if name not in PEERS:
        raise InteropError(f"{folder}: peer '{name}' is unknown; known are {', '.join(sorted(PEERS))}")
    weights = _tensors(folder / "weights.safetensors")
    try:
        networks = build_networks(name, settings, weights)
    except InteropError as error:
        raise InteropError(f"{folder}: {error}") from None
    unknown = settings.keys() - settings.consulted - _HOW_THEY_WERE_MADE
    if unknown:
        raise InteropError(f"{folder}: unknown settings: {', '.join(sorted(unknown))}")
    return Golden(
        document,
        io,
        {part: built.network for part, built in networks.items()},
        {part: built.rename for part, built in networks.items()},
    )


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise InteropError(f"{file}: missing or damaged ({error})") from None


class _Consulted(Mapping[str, Any]):
    """A mapping that remembers what was looked up in it."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.consulted: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.consulted.add(key)
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

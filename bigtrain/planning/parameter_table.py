"""What a config's networks are made of: parameters by network and stage."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from rich.table import Table
from torch import nn

from bigtrain.config import TrainingConfig
from bigtrain.core.config import ConfigError
from bigtrain.core.logging import console
from bigtrain.models.recompute import stages_of


class Part(NamedTuple):
    """A stage, or what lies outside of the stages.

    Attributes:
        name: its path in the network.
        kind: its class.
        parameters: how many numbers are learnt.
        buffers: how many are kept besides.
    """

    name: str
    kind: str
    parameters: int
    buffers: int


def parts(network: nn.Module) -> list[Part]:
    """Return a network's stages and whatever else holds parameters or buffers, in order."""
    paths = {module: path for path, module in network.named_modules()}
    stages = [paths[stage] for stage in stages_of(network)]
    counts: dict[str, list[int]] = {}
    for column, tensors in enumerate((network.named_parameters(), network.named_buffers())):
        for name, value in tensors:
            path = next((stage for stage in stages if name.startswith(f"{stage}.")), name.partition(".")[0])
            counts.setdefault(path, [0, 0])[column] += value.numel()
    modules: Mapping[str, nn.Module] = dict(network.named_modules())
    return [
        Part(path, type(modules[path]).__name__ if path in modules else "tensor", *count)
        for path, count in counts.items()
    ]


def parts_by_network(config: TrainingConfig) -> dict[str, tuple[str, list[Part]]]:
    """Return each network's kind and parts, built on the meta device: nothing is allocated.

    Raises:
        ConfigError: a network and the images do not fit.
    """
    found = {}
    for name, spec in config.networks(config.data.field_specs()).items():
        try:
            with torch.device("meta"):
                network = spec.build()
        except ValueError as error:
            raise ConfigError(str(error)) from None
        found[name] = (str(spec.config.model_dump()["kind"]), parts(network))
    return found


def parameters_as_json(config: TrainingConfig) -> dict[str, Any]:
    """Return what `show_parameters` prints, for programs."""
    return {
        name: {"kind": kind, "parts": [part._asdict() for part in found]}
        for name, (kind, found) in parts_by_network(config).items()
    }


def show_parameters(config: TrainingConfig) -> None:
    """Print the table of each network.

    Raises:
        ConfigError: a network and the images do not fit.
    """
    for name, (kind, found) in parts_by_network(config).items():
        table = Table(title=f"{name}: {kind}", title_justify="left", box=None, show_footer=True)
        learnt, kept = sum(part.parameters for part in found), sum(part.buffers for part in found)
        table.add_column("part", footer="total")
        table.add_column("kind")
        table.add_column("parameters", f"{learnt:,}", justify="right")
        table.add_column("buffers", f"{kept:,}", justify="right")
        table.add_column("MiB", f"{_mebibytes(learnt):,.2f}", justify="right")
        for part in found:
            row = f"{part.parameters:,}", f"{part.buffers:,}", f"{_mebibytes(part.parameters):,.2f}"
            table.add_row(part.name, part.kind, *row)
        console.print(table)


def _mebibytes(numbers: int) -> float:
    """Return the size of so many parameters in float32."""
    return numbers * 4 / 2**20

"""Where the reference numbers lie: beside the project, or in $BIGTRAIN_GOLDEN."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor, nn

from bigtrain.interop.peers import PEERS
from bigtrain.models import ImageSpec

FOLDER = Path(os.environ.get("BIGTRAIN_GOLDEN", Path(__file__).parents[3] / "shared" / "golden"))


@dataclass
class Golden:
    """One folder of reference numbers."""

    settings: dict[str, Any]
    document: dict[str, Any]
    weights: dict[str, Tensor]
    io: dict[str, Tensor]

    def build(self) -> tuple[Any, Any, ImageSpec]:
        """Build G and D with the reference's weights."""
        G, D, image = PEERS[self.document["peer"]].networks(self.settings, self.weights)
        networks = {"G": G.build(image), "D": D.build(image)}
        for part, network in networks.items():
            self.load(network, part)
        return networks["G"], networks["D"], image

    def load(self, network: nn.Module, part: str) -> None:
        """Load the weights of `G` or `D`."""
        rename = PEERS[self.document["peer"]].rename
        names = {name: rename(part, name[2:]) for name in self.weights if name.startswith(f"{part}.")}
        network.load_state_dict({ours: self.weights[name] for name, ours in names.items() if ours})
        network.eval()
        assert sum(value.numel() for value in network.parameters()) == self.document[f"params_{part}"]

    def check_gradient_norms(self, network: nn.Module, key: str) -> None:
        """Compare the gradients that `network` holds with the reference's, and forget them."""
        expected = self.document[key]
        largest = max(expected.values())
        assert expected.keys() <= dict(network.named_parameters()).keys()
        for name, parameter in network.named_parameters():
            norm = 0.0 if parameter.grad is None else parameter.grad.norm().item()
            assert norm == pytest.approx(expected.get(name, 0.0), rel=1e-3, abs=1e-6 * largest), f"{key}: {name}"
        network.zero_grad()


def read(name: str) -> Golden:
    """Read a folder; missing, it fails in CI and skips elsewhere."""
    folder = FOLDER / name
    if not folder.is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no golden vectors at {folder} (set BIGTRAIN_GOLDEN)")
    document = json.loads((folder / "config.json").read_text())
    return Golden(
        document["config"], document, load_file(folder / "weights.safetensors"), load_file(folder / "io.safetensors")
    )


def assert_same(ours: Tensor, reference: Tensor, tolerance: float = 1e-4) -> None:
    """Compare relative to the reference's own scale."""
    error = (ours.reshape(reference.shape) - reference).abs().max() / reference.abs().max()
    assert error < tolerance, f"error {error:.2e} of the output's scale"

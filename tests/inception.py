"""Inception-v3 with random weights that tell images apart, as files that the real one comes in: for tests."""

import hashlib
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch_fidelity import feature_extractor_inceptionv3 as fidelity

from bigtrain.models.pretrained.weights import WEIGHTS


def write_weights(folder: Path, seed: int = 0) -> Path:
    """Write seeded random weights under the published file's name, vouched for by SHA256SUMS."""
    return vouch(folder / WEIGHTS["inception-v3-compat"].names[0], random_state(seed))


def random_state(seed: int = 0) -> dict[str, Any]:
    """Return tensors by the names that torch-fidelity and pytorch-fid know."""
    generator = torch.Generator().manual_seed(seed)
    with (
        mock.patch.object(fidelity, "load_state_dict_from_url"),
        mock.patch.object(nn.Module, "load_state_dict"),
        mock.patch.object(nn.init, "kaiming_uniform_"),  # its weights are replaced below
    ):
        network = fidelity.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight.uniform_(0.9, 1.3, generator=generator)
            module.bias.normal_(0, 0.1, generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.05, generator=generator)
            nn.init.normal_(module.bias, 0, 0.05, generator=generator)
    return network.state_dict()


def vouch(path: Path, state: dict[str, Any]) -> Path:
    """Save tensors, and say that they are meant to be these."""
    torch.save(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with (path.parent / "SHA256SUMS").open("a") as sums:
        sums.write(f"{digest}  {path.name}\n")
    return path

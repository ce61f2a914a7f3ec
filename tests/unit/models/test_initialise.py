"""Building in place: the same networks, and one copy of the weights in memory."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from bigtrain.models import ImageSpec
from bigtrain.models.initialise import build_network
from tests.unit.models.test_families import DISCRIMINATORS, GENERATORS

CPU = torch.device("cpu")
IMAGE = ImageSpec(32, 3, 5)
DRAW_IN_ANOTHER_ORDER = ("StyleGAN", "ViT")


def tensors(network: nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


@pytest.mark.parametrize("config", [*GENERATORS, *DISCRIMINATORS])
def test_every_tensor_is_filled_as_building_directly_would(config) -> None:
    torch.manual_seed(0)
    direct = tensors(config.build(IMAGE))
    other = tensors(config.build(IMAGE))
    torch.manual_seed(0)
    in_place = tensors(build_network(config, IMAGE, device=CPU))
    torch.manual_seed(0)
    again = tensors(build_network(config, IMAGE, device=CPU))
    assert in_place.keys() == direct.keys()
    for name, value in in_place.items():
        assert torch.equal(value, again[name]), f"{name} is not a function of the seed"
        if not type(config).__name__.startswith(DRAW_IN_ANOTHER_ORDER) or torch.equal(direct[name], other[name]):
            assert torch.equal(value, direct[name]), name
        elif value.numel() > 100:
            assert value.std().item() == pytest.approx(direct[name].std().item(), rel=0.5), name


MEASURE = """
import torch
from pathlib import Path
from bigtrain.models import ImageSpec
from bigtrain.models.initialise import build_network
from bigtrain.models.stylegan2 import StyleGAN2GeneratorConfig

def resident(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))

build_network(StyleGAN2GeneratorConfig(channel_max=8), ImageSpec(8, 3), device=torch.device("cpu"))
Path("/proc/self/clear_refs").write_text("5")  # forget the peak
before = resident("VmRSS")
network = build_network(StyleGAN2GeneratorConfig(), ImageSpec(1024, 3), device=torch.device("cpu"))
weights = sum(t.numel() * t.element_size() for t in [*network.parameters(), *network.buffers()])
print((resident("VmHWM") - before) / weights)
"""


def test_a_large_generator_takes_one_copy() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    assert 0.8 < float(done.stdout) < 1.2, "peak memory over the weights' own"

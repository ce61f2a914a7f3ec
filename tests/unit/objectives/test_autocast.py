"""Penalties in mixed precision, under CUDA's autocast policy too: what is differentiated twice keeps its dtype."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from bigtrain.models import ImageSpec
from bigtrain.objectives.regularizers import path_lengths, r1_penalty
from bigtrain.ops.convolution import conv2d
from bigtrain.ops.precision import outside_autocast
from tests.cuda_autocast import Dtypes, cuda_autocast
from tests.training import Training
from tests.unit.models.test_families import DISCRIMINATORS, GENERATORS

STYLES = [config for config in GENERATORS if "style" in config.kind]
IMAGE = ImageSpec(32, 1, 5)
LABEL = torch.tensor([0, 1, 2, 3])


@pytest.fixture
def cuda() -> Iterator[None]:
    with cuda_autocast():
        yield


@pytest.mark.parametrize("config", DISCRIMINATORS)
def test_a_float32_penalty_computes_in_float32_alone(config: Any, cuda: None) -> None:
    """Its linear layers too, which CPUs ran in bfloat16, and its convolutions, which GPUs would have."""
    network = config.build(IMAGE)
    real = torch.randn(4, *IMAGE.shape, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        with outside_autocast("cpu"):
            logits = network(real, LABEL)
        with Dtypes() as dtypes:
            penalty = r1_penalty(logits, real).mean()
    with dtypes:
        penalty.backward()
    assert not dtypes.mixed
    assert dtypes.seen
    assert {name: found for name, found in dtypes.seen.items() if torch.bfloat16 in found} == {}


@pytest.mark.parametrize("config", DISCRIMINATORS)
def test_a_penalty_in_low_precision_mixes_no_dtypes(config: Any, cuda: None) -> None:
    network = config.build(IMAGE)
    real = torch.randn(4, *IMAGE.shape, requires_grad=True)
    with Dtypes() as dtypes:
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(real, LABEL)
            loss = r1_penalty(logits, real).mean() + logits.mean()
        loss.backward()
    assert not dtypes.mixed
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("config", STYLES)
def test_a_path_length_in_low_precision_mixes_no_dtypes(config: Any, cuda: None) -> None:
    network = config.build(IMAGE)
    with Dtypes() as dtypes:
        with torch.autocast("cpu", torch.bfloat16):
            styles = network.styles(torch.randn(4, network.z_dim), LABEL)
            image = network.synthesize(styles)
            lengths = path_lengths(image, styles, torch.randn_like(image))
        lengths.mean().backward()
    assert not dtypes.mixed


@pytest.mark.usefixtures("alone", "cuda")
@pytest.mark.parametrize("precision", ["bf16", "pure_bf16", "fp16"])
@pytest.mark.parametrize(
    "terms",
    [
        {"r1": {"gamma": 1.0}, "path_length": {}},
        {"r1": {"gamma": 1.0, "fp32": False}, "r2": {"gamma": 1.0}},
        {"r2": {"gamma": 1.0, "fp32": False}, "dragan": {"fp32": False}},
    ],
)
def test_whole_steps_mix_no_dtypes(terms: dict[str, Any], precision: str) -> None:
    training = Training({"objective": {"terms": terms}}, precision=precision)
    with Dtypes() as dtypes:
        training.step()
    assert not dtypes.mixed


@pytest.mark.usefixtures("alone", "cuda")
def test_an_unrolled_game_mixes_no_dtypes() -> None:
    training = Training({"objective": {"unrolled": {"steps": 2}}}, precision="bf16")
    with Dtypes() as dtypes:
        training.step()
    assert not dtypes.mixed


@pytest.mark.parametrize("watched", [False, True])
def test_autocast_does_not_lower_a_large_convolutions_backward(watched: bool) -> None:
    """Winograd's products were lowered to bfloat16, but not under a mode that watches operators: two results."""
    image = torch.randn(16, 128, 16, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(128, 128, 3, 3, requires_grad=True)
    total = conv2d(image, weight, padding=1).square().sum()
    expected = torch.autograd.grad(total, [image, weight], create_graph=True)
    with torch.autocast("cpu", torch.bfloat16), Dtypes() if watched else nullcontext():
        found = torch.autograd.grad(total, [image, weight], create_graph=True)
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))

"""What keeps a training in low precision sound."""

from typing import Any

import pytest
import torch
from torch import nn

from bigtrain.core.config import ConfigError
from bigtrain.distributed.precision import LossScaler, advice_on, allow_tf32, check_precision, convolution_speeds
from bigtrain.engine.optimizers import AdamConfig
from bigtrain.strategies.base import TorchStrategy
from tests.training import SMALL, STYLEGAN2, Training

RATES = {"lr": 1e-3, "betas": (0.0, 0.99)}


class Line(nn.Module):
    """A weight times an input, which is the gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, phase: Any, batch: Any, rivals: Any) -> Any:
        return (self.weight * batch).sum(), {}

    def networks(self) -> dict[str, nn.Module]:
        return {}


def strategy(precision: Any, accumulation: int = 1) -> tuple[Line, TorchStrategy]:
    player: Any = Line()
    return player, TorchStrategy(player, AdamConfig(lr=1e-3), precision, accumulation)


def move(training: TorchStrategy, *gradients: float) -> dict[str, torch.Tensor]:
    phase: Any = None
    for gradient in gradients:
        batch: Any = torch.full((2,), gradient)
        loss, _ = training.loss(phase, batch, {}, last_micro=True)
        training.backward(loss)
    return training.step(RATES)


def test_masters_keep_what_a_bfloat16_weight_cannot_hold() -> None:
    player, training = strategy("pure_bf16")
    for _ in range(10):
        move(training, 1.0)  # a thousandth a step: below half of bfloat16's spacing at 1, which is 1 / 256
    assert player.weight.dtype == torch.bfloat16
    masters = dict(training.full_params())
    torch.testing.assert_close(masters["weight"], torch.full((2,), 0.99), rtol=0, atol=1e-5)
    torch.testing.assert_close(player.weight.float(), torch.full((2,), 0.99), rtol=0, atol=2**-8)


def test_micro_batches_add_up_in_float32() -> None:
    """In bfloat16 the small gradients would be lost beside the large one."""
    _, training = strategy("pure_bf16", accumulation=257)
    stats = move(training, 1.0, *[2.0**-10] * 256)
    expected = (1 + 256 * 2.0**-10) / 257 * 2**0.5
    assert stats["gradient_norm"].item() == pytest.approx(expected, rel=1e-2)


def test_a_state_of_pure_bf16_loads_into_fp32_and_back() -> None:
    _, pure = strategy("pure_bf16")
    move(pure, 1.0)
    player, full = strategy("fp32")
    full.load_state_dict(pure.state_dict())
    torch.testing.assert_close(player.weight.detach(), torch.full((2,), 0.999))
    again_player, again = strategy("pure_bf16")
    again.load_state_dict(full.state_dict())
    for one in (pure, full, again):
        move(one, 1.0)
    for one in (full, again):
        torch.testing.assert_close(dict(one.full_params()), dict(pure.full_params()))
    assert again_player.weight.dtype == torch.bfloat16


def test_the_scale_halves_at_an_overflow_and_doubles_after_a_good_time() -> None:
    scaler = LossScaler(torch.device("cpu"), scale=8.0, patience=3)
    seen = []
    for finite in (True, True, False, True, True, True, True):
        scaler.update(torch.tensor(float(not finite)))
        seen.append(scaler.scale.item())
    assert seen == [8, 8, 4, 4, 4, 8, 8]
    other = LossScaler(torch.device("cpu"))
    other.load_state_dict(scaler.state_dict())
    for one in (scaler, other):
        for _ in range(2):
            one.update(torch.tensor(0.0))
    assert scaler.scale.item() == 16.0


def test_fp16_skips_an_overflow_and_each_player_has_its_own_scale() -> None:
    player, training = strategy("fp16")
    _, other = strategy("fp16")
    skipped = move(training, float("inf"))
    assert skipped["skipped_step"] == 1 and torch.equal(player.weight.detach(), torch.ones(2))
    assert training.state_dict()["scaler"]["scale"] == 2.0**15
    assert other.state_dict()["scaler"]["scale"] == 2.0**16
    stats = move(training, 3.0)
    assert stats["gradient_norm"].item() == pytest.approx(3 * 2**0.5)
    torch.testing.assert_close(player.weight.detach(), torch.full((2,), 0.999))


def test_fp16_is_refused_without_a_gpu() -> None:
    with pytest.raises(ConfigError, match="use 'bf16'"):
        check_precision("fp16", cuda=False)
    check_precision("fp16", cuda=True)


@pytest.mark.parametrize(
    ("precision", "bf16_speed", "advice"),
    [
        ("bf16", 0.5, "precision=fp32"),
        ("bf16", 0.9, None),
        ("bf16", 4.0, None),
        ("fp32", 4.0, "precision=bf16"),
    ],
)
def test_the_faster_precision_of_a_cpu_is_named(precision: Any, bf16_speed: float, advice: str | None) -> None:
    found = advice_on(precision, {torch.float32: 1.0, torch.bfloat16: bf16_speed})
    assert found is None if advice is None else advice in str(found)
    assert all(speed > 0 for speed in convolution_speeds().values())


def test_tf32_is_a_switch() -> None:
    for allowed in (True, False):
        allow_tf32(allowed)
        assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == allowed


@pytest.mark.parametrize("precision", ["bf16", "pure_bf16", "fp16"])
def test_losses_penalties_and_statistics_stay_float32(precision: str, alone: None) -> None:
    """And so do the averages; fp16 on a CPU is for tests of the arithmetic only."""
    D = {**STYLEGAN2["discriminator"], "mbstd_group": 4}
    config = {"discriminator": D, "objective": {"terms": {"r1": {"gamma": 1.0, "interval": 1}}}}
    training = Training(config, SMALL, precision=precision)
    image_dtypes = []
    D_network = training.task.players["D"].networks()["D"]

    def note(module: nn.Module, args: Any, output: torch.Tensor) -> None:
        image_dtypes.append(output.dtype)

    for module in D_network.modules():
        if isinstance(module, nn.Conv2d) or "Conv" in type(module).__name__:
            module.register_forward_hook(note)
    phase = training.task.phases(training.progress)[0]
    batch = next(iter(training.batch(0).micro_batches(4)))[0]
    rivals = training.strategies["G"].infer()
    loss, stats = training.strategies["D"].loss(phase, batch, rivals, last_micro=True)
    assert loss.dtype == torch.float32 and {value.dtype for value in stats.values()} == {torch.float32}
    low = torch.float16 if precision == "fp16" else torch.bfloat16
    assert low in image_dtypes
    if precision != "pure_bf16":  # whose D has no float32 weights to run in
        assert torch.float32 in image_dtypes, "R1 ran through D in float32, the rest did not"
    for strategy_ in training.strategies.values():
        assert {value.dtype for _, value in strategy_.full_params() if value.is_floating_point()} == {torch.float32}
    training.step()
    assert all(weight.isfinite().all() for weight in training.weights().values())

import json

import pytest
import torch

from bigtrain.augment.ada_controller import AdaController, AdaptiveConfig, FixedConfig
from bigtrain.core.schedules import ConstantSchedule, LinearSchedule
from bigtrain.core.state import Progress

CPU = torch.device("cpu")


def _run(controller, progress: Progress, signs) -> list[float]:
    seen = []
    for sign in signs:
        progress.advance()
        controller.update(torch.tensor(sign), progress)
        seen.append(controller.p.item())
    return seen


def test_p_moves_by_one_in_its_kimg_towards_the_target() -> None:
    controller = AdaptiveConfig(interval=2, adjust_kimg=1.0).build(CPU)
    seen = _run(controller, Progress(10**6, 50), [0.9] * 6 + [0.5] * 4)
    assert seen == pytest.approx([0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.2, 0.2, 0.1])


def test_p_stays_between_zero_and_its_bound() -> None:
    controller = AdaptiveConfig(interval=1, adjust_kimg=0.1, bound=0.8).build(CPU)
    assert _run(controller, Progress(10**6, 50), [1.0] * 3) == pytest.approx([0.5, 0.8, 0.8])
    assert _run(controller, Progress(10**6, 50), [0.0] * 3) == pytest.approx([0.3, 0.0, 0.0], abs=1e-7)


def test_the_mean_over_the_interval_decides() -> None:
    controller = AdaptiveConfig(interval=4, adjust_kimg=0.2).build(CPU)
    assert _run(controller, Progress(10**6, 50), [1.0, 1.0, 0.0, 0.1])[-1] == 0.0
    assert _run(controller, Progress(10**6, 50), [1.0, 1.0, 0.5, 0.1])[-1] == 1.0


def test_resumes_exactly_in_the_middle_of_an_interval() -> None:
    signs = torch.rand(23).tolist()
    config = AdaptiveConfig(interval=4, adjust_kimg=0.7)
    whole, first, second = (AdaController(config, CPU) for _ in range(3))
    expected = _run(whole, Progress(10**6, 48), signs)
    progress = Progress(10**6, 48)
    seen = _run(first, progress, signs[:10])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert seen + _run(second, progress, signs[10:]) == expected
    assert second.state_dict() == whole.state_dict()


def test_a_fixed_p_follows_its_schedule() -> None:
    fixed = FixedConfig(p=LinearSchedule(value=0.4, start=0.5)).build(CPU)
    progress = Progress(1000, 250)
    assert fixed.p.item() == pytest.approx(0.4)
    assert _run(fixed, progress, [1.0] * 4) == pytest.approx([0.4, 0.4, 0.2, 0.0])


def test_p_stays_the_same_tensor() -> None:
    """Who holds p need not ask for it again."""
    for config in (FixedConfig(p=ConstantSchedule(value=0.5)), AdaptiveConfig(interval=1)):
        controller = config.build(CPU)
        held = controller.p
        _run(controller, Progress(1000, 100), [1.0])
        controller.load_state_dict(controller.state_dict())
        assert controller.p is held

import pytest

from bigtrain.core.schedules import ConstantSchedule, CosineSchedule, LinearSchedule, OptimizerConfig


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        (ConstantSchedule(), {0: 1.0, 999: 1.0}),
        (ConstantSchedule(warmup_kimg=0.2), {0: 0.0, 100: 0.5, 200: 1.0, 900: 1.0}),
        (LinearSchedule(start=0.5), {0: 1.0, 500: 1.0, 750: 0.5, 1000: 0.0, 1500: 0.0}),
        (LinearSchedule(start=0.0, final=0.2), {500: 0.6, 1000: 0.2}),
        (CosineSchedule(), {0: 1.0, 500: 0.5, 1000: 0.0}),
        (CosineSchedule(final=0.5), {1000: 0.5}),
    ],
)
def test_factor_at(schedule: ConstantSchedule, points: dict[int, float]) -> None:
    for samples_seen, factor in points.items():
        assert schedule.factor(samples_seen, 1000) == pytest.approx(factor)


def test_learning_rate_is_the_peak_times_the_factor() -> None:
    assert OptimizerConfig(lr=2e-3, schedule=CosineSchedule()).lr_at(500, 1000) == pytest.approx(1e-3)

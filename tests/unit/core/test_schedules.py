from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigtrain.core.config import Config, ConfigError, apply_overrides, dump_yaml, parse_config
from bigtrain.core.schedules import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    LrScaling,
    Schedule,
)
from bigtrain.engine.optimizers import AdamConfig


class Lamp(Config):
    brightness: Schedule


def lamp(*overrides: str) -> Lamp:
    return parse_config(Lamp, apply_overrides({}, overrides), source="lamp.yaml")


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        (ConstantSchedule(value=3.0), {0: 3.0, 999: 3.0}),
        (ConstantSchedule(value=2.0, warmup_kimg=0.2), {0: 0.0, 100: 1.0, 200: 2.0, 900: 2.0}),
        (LinearSchedule(value=1.0, start=0.5), {0: 1.0, 500: 1.0, 750: 0.5, 1000: 0.0, 1500: 0.0}),
        (LinearSchedule(value=1.0, final=0.2), {500: 0.6, 1000: 0.2}),
        (LinearSchedule(value=0.2, final=1.0, end=0.5), {0: 0.2, 250: 0.6, 500: 1.0, 900: 1.0}),
        (LinearSchedule(value=1.0, warmup_kimg=0.5), {250: 0.375}),
        (CosineSchedule(value=4.0), {0: 4.0, 500: 2.0, 1000: 0.0}),
        (CosineSchedule(value=1.0, final=0.5), {1000: 0.5}),
    ],
)
def test_value_at(schedule: ConstantSchedule, points: dict[int, float]) -> None:
    for samples_seen, value in points.items():
        assert schedule.value_at(samples_seen, 1000) == pytest.approx(value)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(0, 2000))
def test_a_passage_stays_between_its_ends(value: float, final: float, samples_seen: int) -> None:
    for kind in (LinearSchedule, CosineSchedule):
        found = kind(value=value, final=final).value_at(samples_seen, 1000)
        assert min(value, final) * (1 - 1e-9) - 1e-9 <= found <= max(value, final) * (1 + 1e-9)


def test_a_number_is_a_schedule_and_stays_one() -> None:
    assert lamp("brightness=1").brightness.value_at(7, 9) == 1.0
    assert dump_yaml(lamp("brightness=1")) == "brightness: 1.0\n"
    falling = lamp("brightness={kind: cosine, value: 2}")
    assert parse_config(Lamp, falling.model_dump(mode="json"), source="again") == falling


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("brightness=high", "'brightness': write a number, or a mapping with kind and value, not 'high'"),
        ("brightness=-1", "'brightness': input should be greater than or equal to 0"),
        ("brightness={value: 1}", "missing key 'brightness.kind'"),
        ("brightness={kind: linaer, value: 1}", "unknown brightness.kind 'linaer' (did you mean 'linear'?)"),
        (
            "brightness={kind: linear, value: 1, start: 0.6, end: 0.5}",
            "'brightness': start 0.6 must be below end 0.5",
        ),
    ],
)
def test_mistakes(override: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        lamp(override)
    assert words in str(caught.value)


def test_adam_goes_by_its_schedules() -> None:
    adam = AdamConfig(lr=CosineSchedule(value=2e-3), beta1=LinearSchedule(value=0.5))
    settings = adam.settings_at(500, 1000, global_batch=8)
    assert settings == {"lr": pytest.approx(1e-3), "betas": (pytest.approx(0.25), 0.99)}


@pytest.mark.parametrize(("rule", "factor"), [("linear", 4.0), ("sqrt", 2.0)])
def test_the_learning_rate_follows_the_batch(rule: Any, factor: float) -> None:
    adam = AdamConfig(lr=CosineSchedule(value=2e-3), scale_lr=LrScaling(rule=rule, batch=256))
    assert adam.settings_at(500, 1000, global_batch=256)["lr"] == pytest.approx(1e-3)
    assert adam.settings_at(500, 1000, global_batch=1024)["lr"] == pytest.approx(factor * 1e-3)


def test_a_moment_that_never_forgets_is_refused() -> None:
    with pytest.raises(ValueError, match="beta2 must stay below 1"):
        AdamConfig(lr=1e-3, beta2=LinearSchedule(value=0.9, final=1.0))

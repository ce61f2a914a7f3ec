import math
from collections.abc import Sequence

import pytest

from bigtrain.health.balance import GENERATOR_NORM, DiscriminatorWins, GeneratorWins, Oscillation
from bigtrain.health.diversity import ModeCollapse
from bigtrain.health.memorisation import Duplicates, Memorisation
from bigtrain.health.monitor import Level, Monitor, Readings
from bigtrain.health.networks import DeadUnits, WeightGrowth
from bigtrain.health.overfitting import DiscriminatorOverfits
from bigtrain.health.stability import Divergence, LearningStopped, NotFinite, Starvation


def game(real: float, fake: float, *, right: float, norm: float = 1.0) -> dict[str, float]:
    """An interval in which D is right so often (1 always, -1 never)."""
    return {
        "logits/real_mean": real,
        "logits/fake_mean": fake,
        "signs/real": right,
        "signs/fake": -right,
        "gradient_norm/g_main": norm,
        "gradient_norm/d_main": norm,
        GENERATOR_NORM: norm,
        "loss/g_main": 1.0,
    }


EVEN = game(0.5, -0.5, right=0.4)
OVERFIT = {"logits/train": 3.0, "logits/fake_mean": -3.0, "signs/train": 1.0, "logits/held_out_z": 9.0}
VARIED = {"features/diversity": 0.8, "features/class_diversity": 0.8, "features/different_modes": 0.3}
CASES: list[tuple[type[Monitor], Sequence[Readings], Level]] = [
    (DiscriminatorWins, [EVEN] * 10, Level.OK),
    (DiscriminatorWins, [game(2, -2, right=0.95)] * 10, Level.WARNING),
    (DiscriminatorWins, [game(6, -6, right=1)] * 10, Level.CRITICAL),
    (DiscriminatorWins, [EVEN, *[game(2, -2, right=0.95, norm=1e-3)] * 10], Level.CRITICAL),
    (GeneratorWins, [EVEN] * 10, Level.OK),
    (GeneratorWins, [game(0, 0, right=0)] * 10, Level.OK),
    (GeneratorWins, [game(-0.5, 0.5, right=-0.2)] * 10, Level.WARNING),
    (GeneratorWins, [game(-2, 2, right=-0.5)] * 10, Level.CRITICAL),
    (Oscillation, [EVEN, game(0, 0, right=0.1)] * 10, Level.OK),
    (Oscillation, [game(2, -2, right=0.8), game(-2, 2, right=-0.8)] * 2, Level.WARNING),
    (Oscillation, [game(2, -2, right=0.8), game(-2, 2, right=-0.8)] * 5, Level.CRITICAL),
    (Divergence, [EVEN] * 6, Level.OK),
    (Divergence, [*[EVEN] * 5, game(0, 0, right=0, norm=20)], Level.WARNING),
    (Divergence, [*[EVEN] * 5, {**EVEN, "loss/g_main": -500.0}], Level.CRITICAL),
    (Divergence, [*[EVEN] * 5, {**EVEN, "loss/g_main": math.nan}], Level.OK),
    (LearningStopped, [EVEN] * 5, Level.OK),
    (LearningStopped, [EVEN, *[game(0, 0, right=0, norm=1e-5)] * 4], Level.CRITICAL),
    (LearningStopped, [EVEN, *[game(9, -9, right=1, norm=1e-5)] * 4], Level.OK),
    (NotFinite, [{"skipped_step/d_main": 0.0, "skipped_step/g_main": 0.0}], Level.OK),
    (NotFinite, [{"skipped_step/d_main": 0.0, "skipped_step/g_main": 0.1}], Level.WARNING),
    (NotFinite, [{"skipped_step/d_main": 1.0, "skipped_step/g_main": 0.0}], Level.CRITICAL),
    (Starvation, [{"time/data_wait_share": 0.01}] * 3, Level.OK),
    (Starvation, [{"time/data_wait_share": share} for share in (0.9, 0.3, 0.9)], Level.WARNING),
    (Starvation, [{"time/data_wait_share": 0.9}] * 3, Level.CRITICAL),
    (DiscriminatorOverfits, [{**OVERFIT, "logits/held_out": 2.5}] * 8, Level.OK),
    (DiscriminatorOverfits, [{**OVERFIT, "logits/held_out": 1.0}] * 8, Level.WARNING),
    (DiscriminatorOverfits, [{**OVERFIT, "logits/held_out": 1.0, "logits/held_out_z": 1.0}] * 8, Level.OK),
    (DiscriminatorOverfits, [{**OVERFIT, "logits/held_out": -2.5}] * 8, Level.CRITICAL),
    (ModeCollapse, [VARIED], Level.OK),
    (ModeCollapse, [{**VARIED, "features/diversity": 0.4}], Level.WARNING),
    (ModeCollapse, [{**VARIED, "features/class_diversity": 0.01}], Level.CRITICAL),
    (Memorisation, [{"features/nearest": 1.5, "features/nearest_z": 12.0}], Level.OK),
    (Memorisation, [{"features/nearest": 0.7, "features/nearest_z": -5.0}], Level.WARNING),
    (Memorisation, [{"features/nearest": 0.1, "features/nearest_z": -12.0}], Level.CRITICAL),
    (Duplicates, [{"features/twins": 0.0}], Level.OK),
    (Duplicates, [{"features/twins": 1.0}], Level.CRITICAL),
    (DeadUnits, [{"still/D.conv.bias": 0.0, "lr/D": 1e-3}] * 3, Level.OK),
    (DeadUnits, [{"still/D.conv.bias": share, "lr/D": 1e-3} for share in (1.0, 0.6, 1.0)], Level.WARNING),
    (DeadUnits, [{"still/D.conv.bias": 0.25, "lr/D": 1e-3}] * 3, Level.OK),
    (DeadUnits, [{"still/D.conv.bias": 1.0, "lr/D": 1e-3}] * 3, Level.CRITICAL),
    (DeadUnits, [{"still/D.conv.bias": 1.0, "lr/D": 0.0}] * 3, Level.OK),
    (WeightGrowth, [{"sigma/G.w": 1 + 0.1 * step} for step in range(5)], Level.OK),
    (WeightGrowth, [{"sigma/G.w": 2.0**step} for step in range(5)], Level.WARNING),
    (WeightGrowth, [{"sigma/G.w": 4.0**step} for step in range(5)], Level.CRITICAL),
]


@pytest.mark.parametrize(("monitor", "history", "level"), CASES, ids=lambda value: getattr(value, "symptom", ""))
def test_a_monitor_tells_well_from_ill(monitor: type[Monitor], history: Sequence[Readings], level: Level) -> None:
    asked = monitor()
    selected = [asked.select({**readings, "time/img_per_s": 1.0}) for readings in history]
    assert all(parts.keys() == {""} for parts in selected)
    finding = asked.assess([parts[""] for parts in selected[-asked.window :]])
    assert finding.level == level, finding.evidence
    assert any(character.isdigit() for character in finding.evidence) or level == Level.OK


def test_a_monitor_without_its_readings_says_nothing() -> None:
    assert DiscriminatorWins().select({"signs/real": 1.0}) == {}
    assert Divergence().select({"gradient_norm/g": 1.0}) == {}


def test_each_discriminator_is_assessed_apart() -> None:
    named = {f"{name}/D_{letter}": float(letter == "A") for name in GeneratorWins.reads for letter in "AB"}
    half = {name: value for name, value in named.items() if name != "signs/fake/D_B"}
    shared = {GENERATOR_NORM: 7.0, "time/img_per_s": 1.0}
    whole = dict.fromkeys(GeneratorWins.reads, 1.0)
    assert GeneratorWins().select({**named, **shared}) == {"D_A": whole, "D_B": dict.fromkeys(whole, 0.0)}
    assert GeneratorWins().select(half) == {"D_A": whole}
    assert DiscriminatorWins().select({**named, **shared})["D_A"] == {**whole, GENERATOR_NORM: 7.0}

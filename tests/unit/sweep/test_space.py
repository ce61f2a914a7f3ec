"""Spaces: what they draw, what their grids have, what is refused, and in what words."""

import math
from pathlib import Path

import pytest

from bigtrain.config import TrainingConfig, load_training, parse_training
from bigtrain.core.config import ConfigError, flatten
from bigtrain.sweep.presets import PRESETS, preset, usual_gamma
from bigtrain.sweep.space import Choice, Constraint, LogUniform, Point, Ratio, Same, Space, Uniform
from bigtrain.sweep.sweep import set_values
from tests.conftest import ROOT

LR_G = LogUniform(kind="log_uniform", low=1e-4, high=1e-2, steps=3)
LR_D = Ratio(kind="ratio", of="lr_g", low=0.5, high=2.0, steps=2)


@pytest.fixture(scope="module")
def base() -> TrainingConfig:
    return load_training(ROOT / "configs" / "synthesis" / "biggan-fashion32.yaml")


def test_draws_are_logarithmic_and_the_same_of_a_seed() -> None:
    space = Space({"lr_g": LR_G}, [], {"lr_g": 1e-3})
    drawn = [float(space.draw(f"{number}")["lr_g"]) for number in range(400)]  # type: ignore[arg-type]
    assert drawn == [space.draw(f"{number}")["lr_g"] for number in range(400)]
    assert min(drawn) >= 1e-4 and max(drawn) <= 1e-2
    assert sum(one < 1e-3 for one in drawn) == pytest.approx(200, abs=40)


def test_a_ratio_follows_the_other_key_even_if_it_stands_first() -> None:
    space = Space({"lr_d": LR_D, "lr_g": LR_G}, [], {})
    assert list(space.parameters) == ["lr_g", "lr_d"]
    for number in range(50):
        point = space.draw(str(number))
        assert 0.49 <= float(point["lr_d"]) / float(point["lr_g"]) <= 2.01  # type: ignore[arg-type]


def test_a_key_has_the_value_of_another() -> None:
    space = Space(
        {"beta_d": Same(kind="same", of="beta_g"), "beta_g": Choice(kind="choice", values=(0.0, 0.5))}, [], {}
    )
    assert list(space.grid()) == [{"beta_g": 0.0, "beta_d": 0.0}, {"beta_g": 0.5, "beta_d": 0.5}]


def test_a_grid_has_every_combination_once_conditions_included() -> None:
    kind = Choice(kind="choice", values=("fixed", "adaptive"))
    p = Uniform(kind="uniform", low=0.1, high=0.3, steps=3, when={"kind": "fixed"})
    target = Choice(kind="choice", values=(0.5, 0.6), when={"kind": "adaptive"})
    points = list(Space({"kind": kind, "p": p, "target": target}, [], {}).grid())
    assert points == [
        {"kind": "fixed", "p": 0.1},
        {"kind": "fixed", "p": 0.2},
        {"kind": "fixed", "p": 0.3},
        {"kind": "adaptive", "target": 0.5},
        {"kind": "adaptive", "target": 0.6},
    ]


def test_constraints_hold_of_draws_and_grids() -> None:
    constraint = Constraint("lr_d >= 1.0 * lr_g")
    space = Space({"lr_g": LR_G, "lr_d": LR_D}, [constraint], {})
    assert all(constraint.holds(space.draw(str(number))) for number in range(50))
    assert len(list(space.grid())) == 3
    with pytest.raises(ConfigError, match="none of 1000 random points satisfies lr_g > 1"):
        Space({"lr_g": LR_G}, [Constraint("lr_g > 1")], {}).draw("0")


@pytest.mark.parametrize(
    ("parameters", "constraints", "told"),
    [
        ({"lr_d": LR_D}, [], "space 'lr_d': 'lr_g' is neither"),
        ({"lr_g": LR_G}, ["lr_x < 1"], "constraint 'lr_x < 1': 'lr_x' is neither"),
        ({"lr_g": LR_G}, ["lr_g is small"], "write KEY < NUMBER"),
        ({"lr_g": Ratio(kind="ratio", of="lr_d", low=1, high=2), "lr_d": LR_D}, [], "depend on each other in a circle"),
    ],
)
def test_what_cannot_be_is_told(parameters: dict[str, Ratio], constraints: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Space(parameters, [Constraint(text) for text in constraints], {})


def test_coordinates_lead_back_to_the_point_and_stay_in_the_space() -> None:
    choice = Choice(kind="choice", values=(1, 4, 16))
    space = Space({"lr_g": LR_G, "lr_d": LR_D, "interval": choice}, [], {})
    point: Point = {"lr_g": 2e-3, "lr_d": 1e-3, "interval": 4}
    assert space.coordinates(point) == {"lr_g": 2e-3, "lr_d": 0.5, "interval": 4}
    assert space.at(space.coordinates(point)) == point
    assert space.at(space.from_shares(space.to_shares(space.coordinates(point)))) == point
    outside: Point = {"lr_g": 1.0, "lr_d": 3.0, "interval": 5}
    assert space.at(space.coordinates(outside)) == {"lr_g": 1e-2, "lr_d": 2e-2, "interval": 4}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_fit_the_configs_that_they_are_made_for(base: TrainingConfig, name: str) -> None:
    values = flatten(base.model_dump(mode="json"))
    space = Space(preset(name, base), [], values)  # type: ignore[arg-type]
    for number in range(20):
        tree = set_values(base.model_dump(mode="json"), space.draw(str(number)))
        assert tree["optim"]["G"]["beta1"] == tree["optim"]["D"]["beta1"]
        parse_training(tree, source="test")


def test_gamma_is_tried_around_the_usual_one(base: TrainingConfig) -> None:
    assert usual_gamma(base) == pytest.approx(0.0002 * 32**2 / 32, rel=1e-3)
    gamma = preset("r1", base)["objective.terms.r1.gamma"]
    assert isinstance(gamma, Choice)
    assert [math.log2(float(one) / usual_gamma(base)) for one in gamma.values] == [-2, -1, 0, 1, 2]  # type: ignore[arg-type]


def test_presets_scale_a_schedule_where_the_base_has_one(tmp_path: Path) -> None:
    tiny = load_training(ROOT / "tests" / "tiny.yaml")
    point = preset("ttur_r1", tiny)
    assert {"optim.G.lr.value", "optim.D.lr.value"} < point.keys()
    tree = set_values(tiny.model_dump(mode="json"), {"optim.G.lr.value": 2e-3})
    assert tree["optim"]["G"]["lr"]["kind"] == "linear"
    assert tree["optim"]["G"]["lr"]["value"] == 2e-3


def test_presets_know_players_by_their_roles() -> None:
    path = ROOT / "configs" / "translation" / "pix2pix-emoji64.yaml"
    assert {"optim.G.lr", "optim.D.lr"} < preset("ttur", load_training(path)).keys()
    alone = load_training(path, ["discriminator=null", "optim={G: {lr: 1.0e-3}}"])
    with pytest.raises(ConfigError, match="this run has no discriminator"):
        preset("ttur", alone)


def test_a_new_kind_clears_what_the_old_one_had(base: TrainingConfig) -> None:
    augment = {"kind": "ada", "probability": {"kind": "fixed", "p": 0.5}}
    tree = {**base.model_dump(mode="json"), "augment": augment}
    point = {"augment.probability.target": 0.5, "augment.probability.kind": "adaptive"}
    assert set_values(tree, point)["augment"] == {"kind": "ada", "probability": {"kind": "adaptive", "target": 0.5}}

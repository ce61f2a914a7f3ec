"""Every game and every term: ranks compute what one computes; a resumed run what an undisturbed one does."""

import io
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.distributed.ranks import on_ranks
from tests.training import STYLEGAN2, Training, distance

BIGGAN = {
    "generator": {"kind": "biggan", "z_dim": 8, "width": 2, "multiples": [2, 2]},
    "discriminator": {"kind": "biggan", "width": 2, "multiples": [2, 2]},
}

CASES: dict[str, dict[str, Any]] = {
    "minimax": {"objective": {"adversarial": "minimax", "real_target": 0.9}},
    "least_squares": {"objective": {"adversarial": "least_squares", "n_critic": 2}},
    "weight_clip": {"objective": {"adversarial": "wasserstein", "weight_clip": 0.1}},
    "wgan_gp": {"objective": {"adversarial": "wasserstein", "terms": {"wgan_gp": {}}, "n_critic": 3}},
    "hinge": {"objective": {"adversarial": "hinge", "instance_noise": {"kind": "linear", "value": 0.1}}},
    "r3gan": {"objective": {"adversarial": "relativistic_pairing", "terms": {"r1": {"gamma": 1}, "r2": {"gamma": 1}}}},
    "relativistic_average": {"objective": {"adversarial": "relativistic_average"}},
    "dragan": {"objective": {"terms": {"dragan": {}}}},
    "cr": {"objective": {"terms": {"cr": {"interval": 2}}}},
    "bcr, zcr": {"objective": {"terms": {"bcr": {}, "zcr": {}}}},
    "lecam": {"objective": {"terms": {"lecam": {"weight": 1.0, "decay": 0.5}}}},
    "auxiliary_classifier": {"objective": {"terms": {"auxiliary_classifier": {}}}},
    "feature_matching": {"objective": {"terms": {"feature_matching": {}}}},
    "path_length": {"objective": {"terms": {"path_length": {"interval": 2, "decay": 0.5}}, "style_mixing": 0.9}},
    "top_k, clipping": {
        "objective": {"top_k": 0.5},
        "optim": {
            "G": {"lr": 1e-3, "eps": 1e-4, "clip_norm": 0.1, "clip_value": 0.01},
            "D": {"lr": 1e-3, "eps": 1e-4, "clip_norm": 0.1, "clip_value": 0.01},
        },
    },
    "unrolled": {"objective": {"unrolled": {"steps": 2, "lr": 0.01}}},
    "multi_scale": {
        # Without spectral normalisation, whose state moves once a micro-batch, and a rank here has fewer of them.
        "discriminator": {"kind": "multi_scale", "scales": 2, "base": {**BIGGAN["discriminator"], "spectral": False}},
        "objective": {
            "adversarial": "relativistic_average",
            "top_k": 0.5,
            "terms": {"feature_matching": {}, "r1": {"gamma": 1}},
        },
    },
    "minibatch_discrimination": {
        "discriminator": {"kind": "minibatch_discrimination", "kernels": 4, "base": STYLEGAN2["discriminator"]},
    },
    "orthogonal": {**BIGGAN, "objective": {"terms": {"orthogonal": {}}}},
}

STEPS = 3
WORLDS = [("ddp", 2), pytest.param(("ddp", 4), marks=pytest.mark.slow), ("fsdp", 2)]


def _train(name: str, strategy: str | None = None) -> dict[str, Any]:
    # Batch normalisation (orthogonal's networks) takes its statistics of a micro-batch over all ranks.
    micro_batch = 16 // torch.distributed.get_world_size() if name == "orthogonal" else 4
    return Training(CASES[name], micro_batch=micro_batch, strategy=strategy).run(STEPS)


def _train_all(strategy: str) -> dict[str, dict[str, Any]]:
    return {name: _train(name, strategy) for name in CASES}


@cache
def _expected(name: str) -> dict[str, Any]:
    return _train(name)


@pytest.fixture(scope="module", params=WORLDS, ids=str)
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    strategy, world_size = request.param
    return on_ranks(world_size, _train_all, tmp_path_factory.mktemp("ranks"), strategy)


@pytest.mark.parametrize("name", CASES)
def test_ranks_compute_what_one_computes(name: str, ranks: list[dict[str, Any]], alone: None) -> None:
    expected = _expected(name)
    for result in ranks:
        assert distance(result[name], ranks[0][name]) == 0.0, "the ranks drifted apart"
        assert distance(expected, result[name]) < 1e-3
        for key, value in expected["means"].items():
            assert result[name]["means"][key] == pytest.approx(value, rel=1e-4, abs=1e-5), key


STATEFUL = {
    "objective": {
        "adversarial": "non_saturating",
        "n_critic": 2,
        "style_mixing": 0.5,
        "terms": {"r1": {"gamma": 1, "interval": 3}, "lecam": {"decay": 0.5}, "path_length": {"interval": 2}},
    },
    "augment": {"kind": "ada", "probability": {"kind": "adaptive", "adjust_kimg": 0.1, "initial": 0.3}},
}


def _resume() -> tuple[Any, Any, Any]:
    straight = Training(STATEFUL)
    for _ in range(3):
        straight.step()
    saved = io.BytesIO()
    torch.save(straight.state_dict(), saved)
    resumed = Training(STATEFUL)
    saved.seek(0)
    resumed.load_state_dict(torch.load(saved, weights_only=True))
    for training in (straight, resumed):
        training.means.read()
    both = [training.run(3) for training in (straight, resumed)]
    return both[0], both[1], straight.state_dict()["averages"]


def test_what_adapts_survives_a_resume_to_the_bit(tmp_path: Path) -> None:
    for straight, resumed, averages in on_ranks(2, _resume, tmp_path):
        assert distance(straight, resumed) == 0.0
        assert straight["means"] == resumed["means"]
        assert averages["lecam/real"] != averages["lecam/fake"]
        assert averages["path_length"] > 0

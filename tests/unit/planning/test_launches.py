"""How many operators StyleGAN2's phases launch on a GPU, whose host takes some microseconds for each.

Before random bits were one operator these were 4,900, 5,400 and 11,500 a micro-batch: of the 9,045, 13,275 and 31,115
that an audit counted, more than half were questions about a tensor's device, which launch nothing. The ceilings are a
third of the audit's numbers.
"""

import pytest

from bigtrain.config import load_training
from bigtrain.planning.counting import FakeRun, Kind
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def run() -> FakeRun:
    config = load_training(str(ROOT / "configs" / "synthesis" / "stylegan2-ffhq1024.yaml"), [])
    return FakeRun(config, on_gpus=True)


@pytest.mark.parametrize(
    ("kind", "ceiling"),
    [
        (("d_main",), 3015),
        pytest.param(("g_main",), 4425, marks=pytest.mark.slow),
        pytest.param(("g_main", "path_length"), 10372, marks=pytest.mark.slow),
    ],
)
def test_a_micro_batch_launches_few_operators(run: FakeRun, kind: Kind, ceiling: int) -> None:
    phase, _ = run.kinds()[kind]
    assert 1000 < len(run.work(phase, 4).flops) < ceiling

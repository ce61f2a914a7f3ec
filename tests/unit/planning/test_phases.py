"""The kinds of phases that are planned are those of the whole run."""

import pytest

from bigtrain.core.state import Progress
from bigtrain.planning.phases import kinds_of_phases, last_period
from tests.task_training import TaskTraining
from tests.training import Training

pytestmark = pytest.mark.usefixtures("alone")


def test_a_part_of_the_game_that_joins_later_is_planned() -> None:
    task = TaskTraining("pix2pix", objective={"adversary_from_kimg": 0.1, "terms": {"l1": {}}}).task
    found = kinds_of_phases(task, Progress(1000, 8))
    assert {kind: often for kind, (_, often) in found.items()} == {("d_main",): 1.0, ("g_main", "l1"): 1.0}
    assert "adversarial" in found["g_main", "l1"][0].values


def test_the_last_period_begins_where_every_lazy_term_is_due() -> None:
    terms = {"r1": {"gamma": 1.0, "interval": 4}, "path_length": {"interval": 6}}
    task = Training({"objective": {"terms": terms}}).task
    assert last_period(task, Progress(1600, 16)).step == 84
    assert last_period(task, Progress(160, 16)).step == 0
    assert all(often > 0 for _, often in kinds_of_phases(task, Progress(1600, 16)).values())

import pytest

from bigtrain.core.state import Progress
from bigtrain.evaluation.errors import Interrupted
from bigtrain.evaluation.schedule import EvalSchedule

pytestmark = pytest.mark.usefixtures("alone")


class Run:
    """A run of 100-image steps that take a second each, on a clock of its own."""

    def __init__(self, max_share: float | None, **intervals: float) -> None:
        self.now = 0.0
        self.progress = Progress(total=2_000_000, batch=100)
        self.schedule = EvalSchedule(intervals, max_share, clock=lambda: self.now)

    def go(self, images: int, costs: dict[str, float]) -> list[tuple[str, int]]:
        """Train on so many images, evaluating on the way; return what was evaluated where."""
        done = []
        for _ in range(images // 100):
            self.now += 1
            self.progress.advance()
            kinds = self.schedule.due(self.progress)
            self.schedule.begin(kinds)
            for kind in kinds:
                with self.schedule.account(kind):
                    self.now += costs[kind]
                done.append((kind, self.progress.samples_seen))
        return done


def test_without_a_budget_every_interval_counts() -> None:
    run = Run(None, progress=1.0, full=4.0)
    done = run.go(8000, {"progress": 50, "full": 500})
    assert [place for kind, place in done if kind == "progress"] == list(range(1000, 9000, 1000))
    assert [place for kind, place in done if kind == "full"] == [4000, 8000]


@pytest.mark.parametrize("cost", [0.2, 1.0, 5.0, 20.0])
def test_a_budget_thins_the_schedule_to_its_share_and_keeps_to_the_grid(cost: float) -> None:
    run = Run(0.05, progress=1.0)
    done = run.go(1_000_000, {"progress": cost})
    assert len(done) * cost <= 0.05 * run.now + cost
    assert len(done) >= min(1000, 0.9 * 0.05 * run.now / cost)  # and it is used
    assert all(place % 1000 == 0 for _, place in done)
    assert run.schedule.left_out == 1000 - len(done)


def test_a_costly_kind_does_not_starve_a_cheap_one() -> None:
    run = Run(0.1, progress=1.0, full=10.0)
    done = run.go(1_000_000, {"progress": 0.1, "full": 200.0})
    assert sum(kind == "progress" for kind, _ in done) == 1000
    assert 0 < sum(kind == "full" for kind, _ in done) <= 0.05 * run.now / 200 + 1


def test_the_end_of_a_run_is_always_evaluated() -> None:
    run = Run(0.001, progress=1.0)
    assert run.go(2_000_000, {"progress": 600})[-1] == ("progress", 2_000_000)


def test_what_was_broken_off_is_due_after_a_resume_and_the_account_goes_on() -> None:
    run, other = Run(0.05, progress=1.0, full=4.0), Run(0.05, progress=1.0, full=4.0)
    run.go(4000, {"progress": 3, "full": 30})
    run.schedule.begin(["progress", "full"])
    with run.schedule.account("progress"):
        run.now += 3
    with pytest.raises(Interrupted), run.schedule.account("full"):
        run.now += 7
        raise Interrupted
    assert run.schedule.unfinished == ["full"]
    other.now = 1e6  # another machine's clock
    other.schedule.load_state_dict(run.schedule.state_dict())
    other.progress.load_state_dict(run.progress.state_dict())
    assert other.schedule.unfinished == ["full"]
    for one in (run, other):
        with one.schedule.account("full"):
            one.now += 30
    assert other.schedule.unfinished == []
    costs = {"progress": 3.0, "full": 30.0}
    assert other.go(100_000, costs) == run.go(100_000, costs)

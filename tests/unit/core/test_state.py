from hypothesis import given
from hypothesis import strategies as st

from bigtrain.core.state import Progress


@given(batch=st.integers(1, 300), total=st.integers(1, 3000), interval=st.floats(0.05, 2))
def test_intervals_fire_once_each_and_at_the_end(batch: int, total: int, interval: float) -> None:
    progress = Progress(total, batch)
    fired = []
    while not progress.done:
        progress.advance()
        if progress.passed(interval):
            fired.append(progress.samples_seen)
    reached = int((fired[-1] if fired else 0) / (interval * 1000))
    assert fired[-1] == progress.samples_seen
    assert len(fired) <= reached + 1
    assert fired == sorted(set(fired))


def test_interval_zero_never_fires() -> None:
    progress = Progress(10, 10)
    progress.advance()
    assert progress.done
    assert not progress.passed(0)


def test_state_is_the_images_seen() -> None:
    progress, other = Progress(100, 10), Progress(100, 10)
    progress.advance()
    other.load_state_dict(progress.state_dict())
    assert (other.samples_seen, other.step, other.kimg) == (10, 1, 0.01)

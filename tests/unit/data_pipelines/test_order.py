import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.order import LaneOrder, SampleOrder

COUNTS = st.lists(st.integers(1, 9), min_size=1, max_size=12)


@given(counts=COUNTS, seed=st.integers(0, 2**63 - 1), window=st.integers(1, 14), epoch=st.integers(0, 5))
def test_every_sample_comes_once_an_epoch(counts: list[int], seed: int, window: int, epoch: int) -> None:
    order = SampleOrder(counts, seed, window)
    size = order.size
    seen = sorted(order.locate(position) for position in range(epoch * size, (epoch + 1) * size))
    assert seen == [(shard, row) for shard, count in enumerate(counts) for row in range(count)]


@given(counts=COUNTS, seed=st.integers(0, 99), positions=st.lists(st.integers(0, 10**12), max_size=20))
def test_it_is_a_pure_function_of_the_position(counts: list[int], seed: int, positions: list[int]) -> None:
    one, other = SampleOrder(counts, seed), SampleOrder(counts, seed)
    forwards = [one.locate(position) for position in positions]
    assert forwards == [other.locate(position) for position in reversed(positions)][::-1]


def test_epochs_and_seeds_differ() -> None:
    first = SampleOrder([10] * 4, seed=0)
    epoch = [[first.locate(start + position) for position in range(40)] for start in (0, 40)]
    other = [SampleOrder([10] * 4, seed=1).locate(position) for position in range(40)]
    assert epoch[0] != epoch[1] != other
    assert epoch[0] != sorted(epoch[0])


KNOWN = [(2, 0), (2, 3), (1, 1), (2, 1), (2, 2), (1, 0), (0, 2), (0, 1), (0, 0)]


def test_the_order_of_a_seed_never_changes() -> None:
    order = SampleOrder([3, 2, 4], seed=7, window=2)
    assert [tuple(order.locate(position)) for position in range(9)] == KNOWN


def test_an_empty_shard_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        SampleOrder([3, 0], seed=0)


@given(
    counts=COUNTS,
    window=st.integers(1, 14),
    start=st.integers(0, 200),
    length=st.integers(0, 90),
)
def test_a_span_is_its_positions_one_by_one(counts: list[int], window: int, start: int, length: int) -> None:
    order = SampleOrder(counts, 3, window)
    assert order.locate_span(start, start + length) == [order.locate(at) for at in range(start, start + length)]


@given(counts=COUNTS, window=st.integers(1, 14), position=st.integers(0, 500), attempt=st.integers(0, 40))
def test_a_substitute_depends_on_the_position_alone(
    counts: list[int], window: int, position: int, attempt: int
) -> None:
    one, other = SampleOrder(counts, 3, window), SampleOrder(counts, 3, window)
    other.locate(position + 100)
    found = one.substitute(position, attempt)
    assert found == other.substitute(position, attempt)
    assert found.row < counts[found.shard]
    if attempt < 4:  # in the window, whose shards are open
        assert found.shard in one.upcoming_shards(position)[0]


@given(counts=COUNTS, window=st.integers(1, 14), epoch=st.integers(0, 3))
def test_upcoming_shards_are_those_that_are_read_next(counts: list[int], window: int, epoch: int) -> None:
    order = SampleOrder(counts, 3, window)
    start, stop = epoch * order.size, (epoch + 1) * order.size
    met = list(dict.fromkeys(location.shard for location in order.locate_span(start, stop)))
    here, following = order.upcoming_shards(start)
    assert set(met[: len(here)]) == set(here)
    if len(counts) > window:
        assert set(met[len(here) : len(here) + len(following)]) == set(following)
    assert order.upcoming_shards(stop - 1)[1] == order.upcoming_shards(stop)[0]  # the last window knows what follows


LANES = st.sampled_from([(1, 6), (2, 6), (3, 6), (6, 6), (4, 8)])
SHARDS = st.lists(st.integers(1, 9), min_size=6, max_size=12)


@given(counts=SHARDS, lanes=LANES, epoch=st.integers(0, 3))
def test_in_lanes_every_sample_comes_at_most_once_an_epoch(
    counts: list[int], lanes: tuple[int, int], epoch: int
) -> None:
    plain = SampleOrder(counts, 3, 2)
    order, (number, batch) = LaneOrder(plain, *lanes), lanes
    length, slots = plain.size // number, batch // number
    steps = range(epoch * length, (epoch + 1) * length)  # of each lane, in slots
    places = [step // slots * batch + lane * slots + step % slots for lane in range(number) for step in steps]
    seen = [order.locate(place) for place in places]
    assert len(set(seen)) == len(seen) == number * length > plain.size - number
    for lane in range(number):  # a lane is a piece of the plain order
        start = epoch * plain.size + lane * length
        assert seen[lane * length : (lane + 1) * length] == plain.locate_span(start, start + length)


@given(counts=SHARDS, start=st.integers(0, 200), length=st.integers(0, 60))
def test_one_lane_is_the_order_itself(counts: list[int], start: int, length: int) -> None:
    plain = SampleOrder(counts, 3, 2)
    order = LaneOrder(plain, 1, 7)
    assert order.locate_span(start, start + length) == plain.locate_span(start, start + length)
    assert order.substitute(start, 5) == plain.substitute(start, 5)
    assert order.upcoming_shards(start) == plain.upcoming_shards(start)


@given(counts=SHARDS, lanes=LANES, start=st.integers(0, 200), length=st.integers(0, 60))
def test_a_span_in_lanes_is_its_positions_one_by_one(
    counts: list[int], lanes: tuple[int, int], start: int, length: int
) -> None:
    order = LaneOrder(SampleOrder(counts, 3, 2), *lanes)
    assert order.locate_span(start, start + length) == [order.locate(at) for at in range(start, start + length)]
    batch = range(start - start % lanes[1], start - start % lanes[1] + lanes[1])
    near = [order.upcoming_shards(place) for place in order.lanes_of([batch])]
    met = {location.shard for location in order.locate_span(batch.start, batch.stop)}
    if lanes[1] // lanes[0] <= 2:  # so few that they lie in a window and the next
        assert len(near) == lanes[0]
    assert met & {shard for both in near for window in both for shard in window}

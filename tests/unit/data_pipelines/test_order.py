import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.order import SampleOrder

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

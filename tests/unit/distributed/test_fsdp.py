"""How weights are put together into messages."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bigtrain.strategies.gathering import GATHERED_TOGETHER, in_messages

LARGEST = GATHERED_TOGETHER // 4


@given(st.lists(st.integers(0, 2 * LARGEST), max_size=30))
def test_every_weight_is_in_one_message_in_order(counts: list[int]) -> None:
    sizes = list(enumerate(counts))
    messages = list(in_messages(sizes))
    assert [entry for message in messages for entry in message] == sizes
    assert all(sum(count for _, count in message) <= LARGEST for message in messages if len(message) > 1)


@given(st.lists(st.integers(0, LARGEST), min_size=2, max_size=30))
def test_no_two_neighbouring_messages_would_fit_into_one(counts: list[int]) -> None:
    messages = list(in_messages(list(enumerate(counts))))
    for first, second in pairwise(messages):
        assert sum(count for _, count in first) + second[0][1] > LARGEST

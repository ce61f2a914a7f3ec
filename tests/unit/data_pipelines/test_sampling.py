"""Shares of classes and subsets are exact, and functions of seed and position alone."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.class_counts import ClassCounts
from data_pipelines.errors import DataError
from data_pipelines.order import EachOnce, SampleOrder
from data_pipelines.sampling import ByClass, Shares, subset

CLASSES = 4
LABELS = st.lists(st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=9), min_size=1, max_size=10)
WEIGHTS = st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=CLASSES, max_size=CLASSES)


def by_class(labels: list[list[int]], weights: list[float], seed: int) -> ByClass:
    arrays = [np.array(shard, dtype=np.int32) for shard in labels]
    counts = ClassCounts.of_labels(arrays, CLASSES)
    return ByClass([range(len(shard)) for shard in labels], arrays.__getitem__, counts, weights, seed)


@given(labels=LABELS, weights=WEIGHTS, seed=st.integers(0, 2**32), window=st.integers(1, 12), epoch=st.integers(0, 3))
@settings(deadline=None)
def test_classes_get_their_shares_to_the_image(
    labels: list[list[int]], weights: list[float], seed: int, window: int, epoch: int
) -> None:
    present = {label for shard in labels for label in shard}
    if not any(weights[label] for label in present):
        with pytest.raises(DataError, match="no class that has images has a weight above 0"):
            by_class(labels, weights, seed)
        return
    turns = by_class(labels, weights, seed)
    order = SampleOrder([len(shard) for shard in labels], seed, window, turns)
    assert order.size == sum(map(len, labels))
    seen = Counter(order.locate_span(epoch * order.size, (epoch + 1) * order.size))
    total = sum(weights[label] for label in present)
    for label in present:
        times = [seen[shard, row] for shard, part in enumerate(labels) for row, own in enumerate(part) if own == label]
        assert abs(sum(times) - order.size * weights[label] / total) < 1
        assert max(times) - min(times) <= 1


@given(labels=LABELS, window=st.integers(1, 12), positions=st.lists(st.integers(0, 10**9), max_size=10))
@settings(deadline=None)
def test_order_by_class_is_a_pure_function_of_the_position(
    labels: list[list[int]], window: int, positions: list[int]
) -> None:
    counts = [len(shard) for shard in labels]
    one, other = (SampleOrder(counts, 5, window, by_class(labels, [1.0] * CLASSES, 5)) for _ in range(2))
    forwards = [one.locate(position) for position in positions]
    assert forwards == [other.locate(position) for position in reversed(positions)][::-1]


def test_over_epochs_the_images_of_a_crowded_class_take_turns() -> None:
    labels = [[0] * 9 + [1]]
    order = SampleOrder([10], 3, 1, by_class(labels, [1.0] * CLASSES, 3))
    seen = Counter(order.locate_span(0, 10 * 9 * 50))
    assert seen[0, 9] == 5 * 9 * 50
    assert all(200 < seen[0, row] < 300 for row in range(9))  # 250 expected


def test_images_without_a_label_cannot_be_sampled_by_class() -> None:
    with pytest.raises(DataError, match="2 images have none"):
        ByClass([range(3)], lambda _: np.array([0, -1, -1], np.int32), ClassCounts.of_texts(["1"], 1), [1.0], 0)


def test_weights_are_given_by_name() -> None:
    assert Shares({"cat": 3.0}).of(["dog", "cat"]) == [1.0, 3.0]
    assert Shares({"cat": 3.0}, others=0.0).of(["dog", "cat"]) == [0.0, 3.0]
    with pytest.raises(DataError, match="class 'cow', but the classes are dog, cat"):
        Shares({"cow": 1.0}).of(["dog", "cat"])


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=12), data=st.data())
def test_a_subset_is_exact_and_part_of_larger_ones(counts: list[int], data: st.DataObject) -> None:
    total = sum(counts)
    small = data.draw(st.integers(1, total))
    large = data.draw(st.integers(small, total))
    chosen, more = ([set(rows.tolist()) for rows in subset(counts, size)] for size in (small, large))
    assert (sum(map(len, chosen)), sum(map(len, more))) == (small, large)
    for part, larger, count in zip(chosen, more, counts, strict=True):
        assert part <= larger <= set(range(count))


def test_a_subset_never_changes_and_is_not_larger_than_the_set() -> None:
    assert [rows.tolist() for rows in subset([3, 4], 4)] == [[0, 1, 2], [2]]
    with pytest.raises(DataError, match="8 images was requested, but the dataset has 7"):
        subset([3, 4], 8)


@given(counts=st.lists(st.integers(1, 30), min_size=2, max_size=12), size=st.integers(1, 2), window=st.integers(1, 5))
def test_an_epoch_of_a_subset_shows_it_once(counts: list[int], size: int, window: int) -> None:
    rows = subset(counts, size)
    order = SampleOrder(counts, 1, window, EachOnce(rows))
    expected = [(shard, row) for shard, part in enumerate(rows) for row in part.tolist()]
    for epoch in range(3):
        assert sorted(order.locate_span(epoch * size, (epoch + 1) * size)) == expected

"""How much of what is sent is hidden behind the computation; the clock is a stand-in."""

from types import SimpleNamespace

import pytest

from bigtrain.distributed import traffic as module
from bigtrain.distributed.traffic import Traffic


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def test_a_bucket_that_is_over_before_the_next_one_is_hidden(clock: Clock) -> None:
    """Two buckets of a backward, which waits for the second alone."""
    traffic = Traffic()
    with traffic.step():
        over = traffic.begin_beside(8, waited=False)
        clock.sleep(5)
        over()
        clock.sleep(2)  # the backward goes on
        over = traffic.begin_beside(8, waited=False)
        clock.sleep(10)
        over()
        traffic.waited()
        clock.sleep(3)
    totals = traffic.read()
    assert (totals.messages, totals.bytes) == (2, 16)
    assert (totals.sending, totals.exposed, totals.seconds) == (15, 10, 20)


def test_of_two_buckets_at_once_the_second_is_waited_for(clock: Clock) -> None:
    traffic = Traffic()
    with traffic.step():
        first = traffic.begin_beside(8, waited=False)
        clock.sleep(5)
        second = traffic.begin_beside(8, waited=False)
        first()
        clock.sleep(4)
        second()
        traffic.waited()
    totals = traffic.read()
    assert (totals.sending, totals.exposed) == (9, 4)


def test_where_nobody_says_when_it_waits_a_message_is_waited_for(clock: Clock) -> None:
    traffic = Traffic()
    with traffic.step():
        for _ in range(2):
            over = traffic.begin_beside(8)
            clock.sleep(1)
            over()
            clock.sleep(1)
        with traffic.blocking(8):
            clock.sleep(3)
    totals = traffic.read()
    assert totals.sending == totals.exposed == 5

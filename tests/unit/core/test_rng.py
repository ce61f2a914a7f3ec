import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bigtrain.core.philox import philox_4x32
from bigtrain.core.rng import Draws


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, expected) -> None:
    words = philox_4x32(tuple(torch.tensor([word]) for word in counter), key)
    assert tuple(int(word) for word in words) == expected


@given(start=st.integers(0, 2**40), count=st.integers(1, 40), cut=st.integers(0, 40), size=st.integers(1, 9))
def test_a_sample_is_the_same_in_whatever_batch(start: int, count: int, cut: int, size: int) -> None:
    whole = Draws(3, torch.arange(start, start + count), "z").normal(size)
    parts = [Draws(3, torch.arange(start, start + count)[rows], "z") for rows in (slice(0, cut), slice(cut, None))]
    assert torch.equal(whole, torch.cat([part.normal(size) for part in parts]))


def test_streams_seeds_and_samples_differ() -> None:
    index = torch.arange(4)
    base = Draws(0, index, "z").normal(8)
    for other in (
        Draws(1, index, "z"),
        Draws(0, index, "w"),
        Draws(0, index + 4, "z"),
        Draws(0, index).of("z").of("z"),
    ):
        assert not torch.isclose(base, other.normal(8)).any()


def test_moments_are_those_of_the_distributions() -> None:
    draws = Draws(0, torch.arange(20_000), "moments")
    normal, uniform = draws.normal(10), draws.uniform(10)
    assert abs(normal.mean()) < 0.01
    assert abs(normal.var() - 1) < 0.01
    assert abs(normal.pow(4).mean() - 3) < 0.1
    assert abs(uniform.mean() - 0.5) < 0.003
    assert uniform.min() >= 0
    assert uniform.max() < 1
    counts = draws.integers(7, 10).flatten().bincount(minlength=7)
    assert (counts - counts.float().mean()).abs().max() < 5 * counts.float().mean().sqrt()


def test_categorical_follows_its_weights() -> None:
    counts = Draws(0, torch.arange(30_000)).categorical([1, 0, 2]).bincount(minlength=3)
    assert counts[1] == 0
    assert abs(counts[2] / counts[0] - 2) < 0.1

"""Sounds at another rate: a polyphase filter that leaves nothing above half the lower rate."""

from functools import lru_cache
from math import ceil, gcd
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

Sound = NDArray[np.float64]

_ATTENUATION = 90.0
"""Decibels by which what would be folded back, above half the lower rate, is damped."""

_HALF_LENGTH = 64
"""Samples, at the lower rate, on either side of the filter's middle: what is below 0.91 of half that rate is kept."""


class Ratio(NamedTuple):
    """A change of rate: of `down` samples `up` are made; without a common divisor."""

    up: int
    down: int

    @classmethod
    def between(cls, rate: int, target: int) -> "Ratio":
        """Return the ratio from one rate to another, in samples a second."""
        common = gcd(rate, target)
        return cls(target // common, rate // common)

    def length_of(self, samples: int) -> int:
        """Return how many samples so many become."""
        return -(-samples * self.up // self.down)


@lru_cache(maxsize=8)
def low_pass(ratio: Ratio) -> Sound:
    """Return the taps of a windowed sinc whose stop band begins at half the lower of the two rates.

    The window is Kaiser's (Oppenheim & Schafer, Discrete-Time Signal Processing, section 7.5.3): its shape follows from
    the attenuation, the width of the transition from the attenuation and the length.
    """
    from scipy.signal import firwin

    steps = max(ratio)
    taps = 2 * _HALF_LENGTH * steps + 1
    transition = (_ATTENUATION - 7.95) / (2.285 * np.pi * (taps - 1))
    beta = 0.1102 * (_ATTENUATION - 8.7)
    found: Sound = firwin(taps, 1 / steps - transition / 2, window=("kaiser", beta))
    return found


def excerpt(file: soundfile.SoundFile, ratio: Ratio, first: int, count: int) -> Sound:
    """Return a part of a recording at another rate, as it would be in the whole recording.

    Args:
        file: of the recording; only the part and what the filter sees beside it is read.
        ratio: of the rates.
        first: sample of the recording at the new rate.
        count: of the samples, at most; there are fewer where the recording ends.

    Returns:
        Shape [samples, channels], full scale is 1.
    """
    up, down = ratio
    count = min(count, ratio.length_of(file.frames) - first)
    # Blocks of `down` samples become blocks of `up`: whole blocks are read, so that no sample lies between two.
    beside = ceil(_HALF_LENGTH * max(ratio) / (up * down)) + 1
    block = max(first // up - beside, 0)
    end = min(-(-(first + count) // up) + beside, -(-file.frames // down))
    file.seek(block * down)
    part: Sound = file.read((end - block) * down, dtype="float64", always_2d=True)
    start = first - block * up
    return _resampled(part, ratio)[start : start + count]


def _resampled(sound: Sound, ratio: Ratio) -> Sound:
    from scipy.signal import resample_poly

    found: Sound = resample_poly(sound, *ratio, axis=0, window=low_pass(ratio))
    return found

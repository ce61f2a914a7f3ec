"""Low-pass filters designed by the window method with a Kaiser window (Karras et al. 2021, section 3 and appendix C).

Kaiser's formulas are those of Kaiser (1974), "Nonrecursive digital filter design using the I0-sinh window function".
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily


def kaiser_lowpass(taps: int, *, cutoff: float, width: float, rate: float) -> Tensor:
    """Design a low-pass filter whose frequency response is separable.

    Args:
        taps: length T.
        cutoff: where the response is one half, in the unit of `rate`.
        width: of the transition band, in the same unit.
        rate: sampling rate that the filter runs at.

    Returns:
        Float32, shape [T], unit sum.
    """
    time = _sample_times(taps, rate)
    ideal = np.sinc(2.0 * cutoff * time)
    return _unit_sum(ideal * _window(taps, width, rate))


def radial_kaiser_lowpass(taps: int, *, cutoff: float, width: float, rate: float) -> Tensor:
    """Design a low-pass filter whose frequency response is the same in all directions; see `kaiser_lowpass`.

    The disc of frequencies below the cutoff has the impulse response jinc (appendix C): J1(2 pi f r) / r.

    Returns:
        Float32, shape [T, T], unit sum.
    """
    time = _sample_times(taps, rate)
    radius = np.hypot(*np.meshgrid(time, time))
    window = _window(taps, width, rate)
    with unset_fake_temporarily():  # its values decide how many separable terms it has, in plans too
        argument = torch.from_numpy(2.0 * math.pi * cutoff * np.maximum(radius, 1e-12 / rate))
        ideal = (torch.special.bessel_j1(argument) / argument).numpy()  # 1/2 in the limit of a centre tap
        return _unit_sum(ideal * np.outer(window, window))


def separable_terms(fir: Tensor, tolerance: float = 1e-7) -> tuple[Tensor, Tensor]:
    """Write a 2-D filter as a sum of separable ones, by its singular values.

    Args:
        fir: shape [T, U].
        tolerance: singular values below this share of the largest are left out.

    Returns:
        Columns [K, T] and rows [K, U] with `fir = sum over k of outer(columns[k], rows[k])`, in `fir`'s dtype.
    """
    with unset_fake_temporarily():
        left, values, right = torch.linalg.svd(fir.double(), full_matrices=False)
        keep = int((values > tolerance * values[0]).sum())
        scale = values[:keep].sqrt()
        columns, rows = (left[:, :keep] * scale).t(), right[:keep] * scale[:, None]
        return columns.to(fir.dtype).contiguous(), rows.to(fir.dtype).contiguous()


def _sample_times(taps: int, rate: float) -> np.ndarray:
    return (np.arange(taps) - (taps - 1) / 2) / rate


def _window(taps: int, width: float, rate: float) -> np.ndarray:
    """Return the Kaiser window whose transition band is `width` wide: its attenuation follows from its length."""
    attenuation = 2.285 * (taps - 1) * math.pi * width / (rate / 2) + 7.95
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation > 21:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    else:
        beta = 0.0
    return np.kaiser(taps, beta)


def _unit_sum(fir: np.ndarray) -> Tensor:
    return torch.from_numpy(fir / fir.sum()).float()

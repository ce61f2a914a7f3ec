"""Up-sample, FIR-filter and down-sample an image: one linear operator and its exact adjoint.

The resampling of StyleGAN 2 and 3 (Karras et al. 2020, appendix B) is `zero-stuff by up -> pad -> convolve with a
FIR filter -> keep every down-th sample`. `upfirdn2d_reference` is that sentence in code. `upfirdn2d` never makes the
stuffed zeros nor the discarded samples: it folds them into the stride of a depthwise convolution. The gradient of
the operator is the operator with `up` and `down` exchanged and the filter turned round, so derivatives of every
order run at forward speed; PyTorch's own double backward of a depthwise convolution loops over the channels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.ops.precision import outside_autocast
from bigtrain.ops.twins import use_reference

Padding = tuple[int, int, int, int]


def fir_filter(taps: tuple[float, ...]) -> Tensor:
    """Build the separable 2-D low-pass filter from its 1-D taps, normalised to unit sum: shape [T, T], float32."""
    line = torch.tensor(taps, dtype=torch.float32)
    square = torch.outer(line, line)
    return square / square.sum()


def upfirdn2d(
    x: Tensor, fir: Tensor, *, up: int = 1, down: int = 1, padding: Padding = (0, 0, 0, 0), gain: float = 1.0
) -> Tensor:
    """Resample `x` by `up / down` through the filter `fir`; differentiable to any order.

    Args:
        x: images, shape [N, C, H, W], any floating dtype and memory format.
        fir: filter, shape [T, U], convolved (not correlated) with the image.
        up: zero-stuffing factor. A factor above 1 cannot be combined with `down` above 1 in one call.
        down: decimation factor.
        padding: samples added (or cropped, when negative) left, right, top and bottom, counted after zero-stuffing.
        gain: factor on the result; `up ** 2` keeps an up-sampled image's brightness.

    Returns:
        Shape [N, C, (H * up + top + bottom - T) // down + 1, (W * up + left + right - U) // down + 1].
    """
    if up > 1 and down > 1:
        raise ValueError(f"upfirdn2d resamples up or down in one call, not both (up={up}, down={down})")
    if use_reference():
        return upfirdn2d_reference(x, fir, up=up, down=down, padding=padding, gain=gain)
    result: Tensor = _UpFirDn.apply(x, fir * gain, up, down, padding)
    return result


def upfirdn2d_reference(
    x: Tensor, fir: Tensor, *, up: int = 1, down: int = 1, padding: Padding = (0, 0, 0, 0), gain: float = 1.0
) -> Tensor:
    """Compute the same as `upfirdn2d`, step by step as the definition reads."""
    batch, channels, height, width = x.shape
    left, right, top, bottom = padding
    stuffed = x.new_zeros(batch, channels, height, up, width, up)
    stuffed[:, :, :, 0, :, 0] = x
    stuffed = stuffed.reshape(batch, channels, height * up, width * up)
    padded = F.pad(stuffed, (left, right, top, bottom))
    kernel = (fir.to(x.dtype) * gain).flip(0, 1).expand(channels, 1, *fir.shape)
    return F.conv2d(padded, kernel, groups=channels)[:, :, ::down, ::down]


class _UpFirDn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, fir: Tensor, up: int, down: int, padding: Padding) -> Tensor:
        with outside_autocast(x.device.type):  # the filter runs in the precision of its input
            y = _strided_fir(x, fir.to(x.dtype), up, down, padding)
        left, _, top, _ = padding
        taps_y, taps_x = fir.shape
        ctx.save_for_backward(fir)
        ctx.up, ctx.down = up, down
        ctx.adjoint_padding = (
            taps_x - left - 1,
            x.shape[3] * up - y.shape[3] * down + left - up + 1,
            taps_y - top - 1,
            x.shape[2] * up - y.shape[2] * down + top - up + 1,
        )
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (fir,) = ctx.saved_tensors
        turned = fir.flip(0, 1)
        return _UpFirDn.apply(grad, turned, ctx.down, ctx.up, ctx.adjoint_padding), None, None, None, None


def _strided_fir(x: Tensor, fir: Tensor, up: int, down: int, padding: Padding) -> Tensor:
    channels = x.shape[1]
    left, right, top, bottom = padding
    taps_y, taps_x = fir.shape
    if up == 1:
        symmetric = left == right and top == bottom and min(left, top) >= 0
        if not symmetric:
            x = F.pad(x, padding)
        kernel = fir.flip(0, 1).expand(channels, 1, taps_y, taps_x)
        return F.conv2d(x, kernel, stride=down, padding=(top, left) if symmetric else 0, groups=channels)
    # A transposed convolution is the full convolution of the zero-stuffed image: crop it to what the padding leaves.
    # On a CPU the bf16 depthwise transposed convolution is some 50 times slower than the float32 one.
    wide = torch.promote_types(x.dtype, torch.float32) if x.device.type == "cpu" else x.dtype
    kernel = fir.expand(channels, 1, taps_y, taps_x).to(wide)
    full = F.conv_transpose2d(x.to(wide), kernel, stride=up, groups=channels).to(x.dtype)
    height = x.shape[2] * up + top + bottom - taps_y + 1
    width = x.shape[3] * up + left + right - taps_x + 1
    y0, x0 = taps_y - 1 - top, taps_x - 1 - left
    crop = (-x0, x0 + width - full.shape[3], -y0, y0 + height - full.shape[2])
    return F.pad(full, crop) if any(crop) else full

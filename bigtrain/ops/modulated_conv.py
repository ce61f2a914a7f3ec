"""Weight modulation and demodulation of StyleGAN2 (Karras et al. 2020, section 2.2, equations 1 to 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.ops.convolution import conv2d, conv_transpose2d
from bigtrain.ops.precision import outside_autocast
from bigtrain.ops.twins import use_definition
from bigtrain.ops.upfirdn import upfirdn2d, upfirdn2d_reference


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    *,
    fir: Tensor | None = None,
    up: int = 1,
    demodulate: bool = True,
    padding: int | None = None,
    gain: Tensor | float | None = None,
    offset: Tensor | None = None,
) -> Tensor:
    """Convolve each sample with the weight scaled by its own style, optionally up-sampling by two.

    The style scales the input channels and the demodulation the output channels, so both move out of the
    convolution: one shared weight serves the whole batch (section 2.2), and the demodulation is a matrix product.

    Args:
        x: activations, shape [N, I, H, W].
        weight: shape [O, I, k, k], k odd.
        style: scale of each input channel, shape [N, I].
        fir: low-pass filter, shape [T, T]; needed when `up` is 2.
        up: 1 or 2.
        demodulate: divide by the expected standard deviation of the output (equation 3).
        padding: zeros around the image when `up` is 1; None for as many as keep its size.
        gain: factor on the result, shape [].
        offset: added to the result after that; of a shape that expands to the result's.

    Returns:
        Shape [N, O, H * up, W * up] with the padding that keeps the size, in the dtype of the convolution.
    """
    if use_definition():
        return modulated_conv2d_reference(
            x, weight, style, fir=fir, up=up, demodulate=demodulate, padding=padding, gain=gain, offset=offset
        )
    demodulation = None
    if demodulate:
        # At least float32, and never in autocast's precision.
        energy = weight.to(torch.promote_types(weight.dtype, torch.float32)).square().sum((2, 3))
        with outside_autocast(x.device.type):
            demodulation = (style.to(energy.dtype).square() @ energy.t() + 1e-8).rsqrt()
            if gain is not None:
                demodulation = demodulation * gain
    elif gain is not None:
        style = style * gain
    x = conv2d_resampled(x * style.to(x.dtype)[:, :, None, None], weight, fir=fir, up=up, padding=padding)
    offset = None if offset is None else offset.to(x.dtype)
    if demodulation is None:
        return x if offset is None else x + offset
    factor = demodulation.to(x.dtype)[:, :, None, None]
    return x * factor if offset is None else torch.addcmul(offset, x, factor)


def modulated_conv2d_reference(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    *,
    fir: Tensor | None = None,
    up: int = 1,
    demodulate: bool = True,
    padding: int | None = None,
    gain: Tensor | float | None = None,
    offset: Tensor | None = None,
) -> Tensor:
    """Compute the same as `modulated_conv2d` with one explicit weight a sample, as equations 1 to 3 stand."""
    modulated = weight[None] * style[:, None, :, None, None]
    if demodulate:
        modulated = modulated * (modulated.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    if gain is not None:
        modulated = modulated * gain
    samples = [conv2d_resampled(x[n : n + 1], modulated[n], fir=fir, up=up, padding=padding) for n in range(len(x))]
    y = torch.cat(samples)
    return y if offset is None else y + offset.to(y.dtype)


def conv2d_resampled(
    x: Tensor,
    weight: Tensor,
    *,
    fir: Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Convolve with "same" padding and resample by two through `fir`, in the cheaper order.

    Args:
        x: shape [N, I, H, W].
        weight: shape [O, I, k, k], k odd. With `up=2` it is convolved, otherwise correlated, as in the official
            networks, so that their weights load unchanged.
        fir: low-pass filter, shape [T, T]; needed when resampling.
        up: 1 or 2.
        down: 1 or 2; not together with `up`.
        padding: zeros around the image without resampling; None for as many as keep its size.
        bias: added to each channel of the result, shape [O], or None.

    Returns:
        Shape [N, O, H * up / down, W * up / down].
    """
    size = weight.shape[-1]
    half = size // 2
    if up == 1 and down == 1:
        return conv2d(x, weight, bias, padding=half if padding is None else padding)
    if fir is None:
        raise ValueError("conv2d_resampled needs a low-pass filter when up or down is 2")
    if use_definition():
        return _plus(conv2d_resampled_reference(x, weight, fir=fir, up=up, down=down), bias)
    taps = fir.shape[0]
    if down == 2:
        near, far = half + (taps - 1) // 2, half + (taps - 2) // 2
        if size == 1:
            return conv2d(upfirdn2d(x, fir, down=2, padding=(near, far, near, far)), weight, bias)
        return conv2d(upfirdn2d(x, fir, padding=(near, far, near, far)), weight, bias, stride=2)
    near, far = (taps + 1) // 2, (taps - 2) // 2
    if size == 1:
        return _plus(upfirdn2d(conv2d(x, weight), fir, up=2, padding=(near, far, near, far), gain=4), bias)
    # conv_transpose2d yields 2 * H + size - 2 samples, beginning `half` before the image.
    x = conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    near, far = near - half, far + 2 - size + half
    return _plus(upfirdn2d(x, fir, padding=(near, far, near, far), gain=4), bias)


def _plus(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias.to(x.dtype)[:, None, None]


def conv2d_resampled_reference(x: Tensor, weight: Tensor, *, fir: Tensor, up: int = 1, down: int = 1) -> Tensor:
    """Compute the same as `conv2d_resampled` with `up` or `down` at 2: filter, convolve at full size, decimate."""
    half, taps = weight.shape[-1] // 2, fir.shape[0]
    if up == 2:
        near, far = half + (taps + 1) // 2, half + (taps - 2) // 2
        x = upfirdn2d_reference(x, fir, up=2, padding=(near, far, near, far), gain=4)
        return F.conv2d(x, weight.flip(2, 3))
    near, far = half + (taps - 1) // 2, half + (taps - 2) // 2
    x = upfirdn2d_reference(x, fir, padding=(near, far, near, far))
    return F.conv2d(x, weight)[:, :, ::2, ::2]

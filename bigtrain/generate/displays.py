"""What people are shown of samples of every kind: pictures, as a grid or a page can hold them."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.core.quantise import to_uint8
from data_pipelines.fields.spec import FieldSpec

_BANDS, _TIMES = 64, 128
"""Height and width of a sound's spectrogram in pixels."""

_RANGE_DB = 80.0
"""What a spectrogram shows below its loudest place."""

_FRAMES = 8
"""Frames of a clip that are shown side by side, at most."""

_POINTS_SIDE = 64


def displayed(samples: Tensor, spec: FieldSpec) -> Tensor:
    """Return pictures of samples.

    Args:
        samples: normalised as their kind says, shape [N, *spec.shape]; images may be of another size.
        spec: of the field.

    Returns:
        uint8, shape [N, 1 to 4, H, W].
    """
    draw = _DRAWN.get(spec.kind)
    if draw is not None:
        return draw(samples)
    return _BY_AXES.get(samples.ndim - 1, _rows)(samples)


def _image(images: Tensor) -> Tensor:
    """Return images around [-1, 1] as they are; three channels of more than four."""
    return to_uint8(images if images.shape[1] <= 4 else images[:, :3])


def _spectrogram(sounds: Tensor) -> Tensor:
    """Return the loudness of frequencies (upwards, linear) over time, in decibels, of sounds [N, C, L]."""
    mono = sounds.float().mean(1)
    length = max(16, min(512, 2 ** ((mono.shape[1] // 8).bit_length() - 1)))
    window = torch.hann_window(length, device=mono.device)
    spectrum = torch.stft(mono, length, length // 4, window=window, center=True, return_complex=True).abs()
    decibels = 20 * torch.log10(spectrum.clamp(min=1e-5))
    loudest = decibels.amax((1, 2), keepdim=True)
    grey = ((decibels - loudest) / _RANGE_DB).clamp(-1, 0) * 2 + 1
    return to_uint8(F.interpolate(grey.flip(1)[:, None], size=(_BANDS, _TIMES), mode="area"))


def _clip(clips: Tensor) -> Tensor:
    """Return frames of clips [N, T, C, H, W] side by side, evenly chosen."""
    chosen = torch.linspace(0, clips.shape[1] - 1, min(_FRAMES, clips.shape[1])).round().long()
    return _image(torch.cat(list(clips[:, chosen].unbind(1)), dim=3))


def _volume(volumes: Tensor) -> Tensor:
    """Return volumes [N, C, D, H, W] seen along each axis, the densest place of each line, side by side."""
    grey = volumes.float().amax(1)
    views = [grey.amax(axis) for axis in (1, 2, 3)]
    height, width = (max(view.shape[axis] for view in views) for axis in (1, 2))
    padded = [F.pad(view, (0, width - view.shape[2], 0, height - view.shape[1]), value=-1.0) for view in views]
    return to_uint8(torch.cat(padded, dim=2)[:, None])


def _points(points: Tensor) -> Tensor:
    """Return points [N, K, 2 or more] in [-1, 1], dark on white; in space from above and from the front."""
    views = [points[..., [0, axis]] for axis in ((1, 2) if points.shape[2] == 3 else (1,))]
    return torch.cat([_seen_points(view) for view in views], dim=3)


def _seen_points(points: Tensor) -> Tensor:
    """Return points [N, K, 2] in [-1, 1] as pictures, the second axis upwards."""
    side = _POINTS_SIDE
    place = ((points.float() + 1) / 2 * (side - 1)).round().long().clamp(0, side - 1)
    flat = (side - 1 - place[..., 1]) * side + place[..., 0]
    picture = torch.full((len(points), side * side), 255, dtype=torch.uint8, device=points.device)
    return picture.scatter_(1, flat, 0).reshape(-1, 1, side, side)


def _rows(arrays: Tensor) -> Tensor:
    """Return arrays of any shape as grey pictures, the last axis to the right."""
    wide = arrays.float().reshape(len(arrays), 1, -1, arrays.shape[-1])
    least, greatest = wide.amin((2, 3), keepdim=True), wide.amax((2, 3), keepdim=True)
    return to_uint8((wide - least) / (greatest - least).clamp(min=1e-12) * 2 - 1)


_DRAWN: Mapping[str, Callable[[Tensor], Tensor]] = {"image": _image, "audio": _spectrogram, "video": _clip}
"""By the kind of field."""

_BY_AXES: Mapping[int, Callable[[Tensor], Tensor]] = {2: _points, 3: _image, 4: _volume}
"""By the number of axes of a sample, for arrays."""

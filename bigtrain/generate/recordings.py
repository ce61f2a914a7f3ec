"""What people listen to and watch of samples: sounds as WAV, clips as films, volumes and points that turn."""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.core.quantise import to_uint8
from bigtrain.generate.displays import displayed
from bigtrain.generate.films import write_film
from bigtrain.generate.pictures import at_most, image_grid
from data_pipelines.codec import Pixels
from data_pipelines.fields.registry import kind_of
from data_pipelines.fields.spec import FieldSpec

COLUMNS = 4
"""Films side by side."""
_SECONDS = 20.0
"""Length of a recording of sounds, at most."""
_PAUSE = 0.25
"""Seconds of silence between two sounds."""
_RATE = 8
"""Frames per second of a video that does not say it."""
_SHORTEST = 4.0
"""Seconds that a film lasts at least; clips are repeated."""
_TURN, _TURN_RATE = 48, 12
"""Pictures of a whole turn, and how many of them per second."""
_WIDTH = 512
_VOLUMES, _LARGEST_SIDE = 8, 48
"""How many volumes turn, and their voxels along an axis at most: larger ones are reduced, for one rank renders them."""


@dataclass(frozen=True)
class Recording:
    """A file that browsers play.

    Attributes:
        suffix: `.wav` or `.mp4`.
        content: of the file.
    """

    suffix: str
    content: bytes


def recorded(samples: Tensor, spec: FieldSpec) -> Recording | None:
    """Record samples, one after another if they are sounds, else side by side.

    Args:
        samples: normalised as their kind says, shape [N, *spec.shape].
        spec: of the field.

    Returns:
        None for what does not sound or move, such as images.
    """
    if not can_be_recorded(spec):
        return None
    if spec.kind == "audio":
        return _sounds(samples, spec)
    if spec.kind == "video":
        rate = Fraction(spec.rate or _RATE).limit_denominator(1001)
        return _film([displayed(frame, _FRAME) for frame in samples.unbind(1)], rate)
    return _film(list(_TURNING[len(spec.shape)](samples.float())), Fraction(_TURN_RATE))


def can_be_recorded(spec: FieldSpec) -> bool:
    """Tell whether samples of a field sound, move, or lie in space: sounds of a known rate, clips, volumes, points."""
    if spec.kind == "array":
        return len(spec.shape) == 4 or (len(spec.shape) == 2 and spec.shape[1] == 3)
    return spec.kind == "video" or (spec.kind == "audio" and bool(spec.rate))


_FRAME = FieldSpec("image", (3, 1, 1), "uint8", codec="png")


def _sounds(samples: Tensor, spec: FieldSpec) -> Recording:
    """Return sounds [N, C, L] one after another, as many as there is time for."""
    assert spec.rate
    count = max(1, min(len(samples), int(_SECONDS / (samples.shape[2] / spec.rate + _PAUSE))))
    apart = F.pad(samples[:count], (0, round(_PAUSE * spec.rate)))
    whole = apart.transpose(0, 1).flatten(1)[None]
    kind, spec = kind_of(spec), replace(spec, shape=(whole.shape[1], whole.shape[2]), codec="wav")
    return Recording(".wav", kind.encode(spec, kind.stored(spec, whole)[0].cpu().numpy()))


def _film(steps: list[Tensor], rate: Fraction) -> Recording:
    """Return a film of pictures side by side, each step uint8 [N, 1 to 4, H, W], repeated until it is long enough."""
    grids = [at_most(image_grid(step, COLUMNS, width=_WIDTH), 2 * _WIDTH) for step in steps]
    times = max(1, math.ceil(_SHORTEST * rate / len(grids)))

    def frames() -> Iterator[Pixels]:
        for _ in range(times):
            yield from grids

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "film.mp4")
        write_film(path, frames(), fps=rate)
        return Recording(".mp4", path.read_bytes())


def _turning_volumes(volumes: Tensor) -> Iterator[Tensor]:
    """Yield pictures of volumes [N, C, D, H, W] that turn about the axis H: what is nearer is brighter.

    A place of value 1 hides what is behind it, one of -1 is empty.
    """
    matter = (volumes[:_VOLUMES].amax(1, keepdim=True).clamp(-1, 1) + 1) / 2
    depth, height, width = (min(side, _LARGEST_SIDE) for side in matter.shape[2:])
    matter = F.adaptive_avg_pool3d(matter, (depth, height, width))
    brightness = torch.linspace(1.0, 0.25, depth, device=volumes.device).reshape(1, 1, depth, 1, 1)
    for cosine, sine in _angles():
        turn = torch.tensor([[cosine, 0, sine, 0], [0, 1, 0, 0], [-sine, 0, cosine, 0]], device=volumes.device)
        grid = F.affine_grid(turn.expand(len(matter), -1, -1), list(matter.shape), align_corners=False)
        turned = F.grid_sample(matter, grid, align_corners=False)
        passed = (1 - turned).cumprod(2)
        before = F.pad(passed, (0, 0, 0, 0, 1, 0), value=1.0)[:, :, :depth]
        yield to_uint8((before * turned * brightness).sum(2) * 2 - 1)


def _turning_points(points: Tensor) -> Iterator[Tensor]:
    """Yield pictures of points [N, K, 3] in [-1, 1] that turn about the last axis, which is upright."""
    x, y, z = points.unbind(2)
    for cosine, sine in _angles():
        yield displayed(torch.stack([cosine * x - sine * y, z], dim=2), _PLANE)


_PLANE = FieldSpec("array", (1, 2), "float32", codec="npy")
_TURNING: Mapping[int, Callable[[Tensor], Iterator[Tensor]]] = {2: _turning_points, 4: _turning_volumes}
"""By the number of axes of a sample."""


def _angles() -> Iterator[tuple[float, float]]:
    for step in range(_TURN):
        angle = 2 * math.pi * step / _TURN
        yield math.cos(angle), math.sin(angle)

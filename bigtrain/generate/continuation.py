"""Continue films by the frames that a network predicts, as `bigtrain apply` does if the network's input is a clip."""

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from bigtrain.core.errors import UserError
from bigtrain.core.quantise import to_uint8
from bigtrain.core.rng import Draws
from bigtrain.generate.images import FILMS, Source
from bigtrain.generate.snapshot import Snapshot
from data_pipelines.codec import Pixels
from data_pipelines.fields.video import frames_of
from data_pipelines.protocol import ImageProtocol, Rejected


def find_films(inputs: Iterable[str]) -> list[Source]:
    """List film files, and those in folders in the order of their names.

    Raises:
        UserError: one does not exist or is no film, a folder contains none, or two would be written to one file.
    """
    found: dict[str, Source] = {}
    for one in map(Path, inputs):
        films = sorted(filter(_is_film, one.rglob("[!.]*"))) if one.is_dir() else [one]
        for film in films:
            if not film.exists():
                raise UserError(f"{film}: no such file or folder")
            if not _is_film(film):
                raise UserError(f"{film}: this network continues films; name files that end in {', '.join(FILMS)}")
            name = str(film.relative_to(one).with_suffix("")) if one.is_dir() else film.stem
            if name in found:
                both = f"{found[name].place} and {film}"
                raise UserError(f"{both} would be written to one {name}.mp4; continue them in two --out folders")
            found[name] = Source(name, str(film), film=film)
        if not films:
            raise UserError(f"{one}: contains no films ({', '.join(FILMS)})")
    return list(found.values())


def continued(
    film: Path, snapshot: Snapshot, source: str, target: str, number: int, *, noise: bool = False
) -> Iterator[Pixels]:
    """Yield the last frames of a film, cropped to the network's size, and the frames that it predicts.

    Args:
        film: its file.
        snapshot: whose network; on its device.
        source: name of its input, clips [T, C, H, W].
        target: name of its output, the frames behind them.
        number: of the film: the network's random numbers are a function of it.
        noise: whether the network draws random numbers, so that each number has a future of its own.

    Raises:
        Rejected: it has fewer frames than the network is given.
        VideoError: it cannot be read.
    """
    given, channels, height, width = snapshot.sampler.inputs[source].shape
    last = deque(frames_of(film, channels), maxlen=given)
    if len(last) < given:
        raise Rejected("short", f"{len(last)} frames, but the network continues {given}")
    protocol = ImageProtocol(height, width, channels, upscale=True)
    clip = np.stack([protocol.apply(frame) for frame in last])
    (device,) = {parameter.device for network in snapshot.networks.values() for parameter in network.parameters()}
    with torch.inference_mode():
        frames = torch.from_numpy(clip)[None].to(device).float() / 127.5 - 1
        draws = Draws(0, torch.tensor([number], device=device), "apply")
        made = snapshot.sampler(snapshot.networks, {source: frames}, draws, **({"noise": True} if noise else {}))
        predicted = to_uint8(made[target][0]).cpu().numpy()
    yield from clip
    yield from predicted


def _is_film(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in FILMS

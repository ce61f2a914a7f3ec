"""What `bigtrain interpolate` shows, by kind: a walk or a turn as a film, tables of mixed styles or truncations."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from bigtrain.core.errors import UserError
from bigtrain.generate.films import SUFFIXES, write_film
from bigtrain.generate.pictures import image_grid
from bigtrain.generate.snapshot import Snapshot
from bigtrain.generate.walks import mix_table, truncation_table, turn, walk
from data_pipelines.codec import Pixels


@dataclass(frozen=True)
class ShowOptions:
    """Options of a picture or film; None for the default. Options that a kind does not have must stay None.

    Attributes:
        seeds: stations of each walk; rows of a table.
        classes: class indices, for the seeds in turn.
        columns: seeds of a style table's columns.
        truncation: of a walk and a style table.
        truncations: of a sweep.
        conditions: between which a turn moves.
        layers: that take the column's style.
        walks: how many side by side, each with seeds of its own.
        frames: between two stations.
        fps: of the film.
        width: of the picture in pixels, about.
    """

    seeds: Sequence[int]
    classes: Sequence[int] | None = None
    columns: Sequence[int] | None = None
    truncation: float | None = None
    truncations: Sequence[float] | None = None
    conditions: Sequence[Sequence[float]] | None = None
    layers: range | None = None
    walks: int | None = None
    frames: int | None = None
    fps: int | None = None
    width: int = 640


class ShowError(UserError):
    """An option that the kind of picture does not have, or a wrong value."""


def show(kind: str, snapshot: Snapshot, options: ShowOptions, out: Path) -> str:
    """Draw what is asked for into `out`; return what it is, in words.

    Raises:
        UserError: there is no such kind, or it does not know what is asked.
    """
    if kind not in KINDS:
        raise ShowError(f"--kind {kind!r}: use {', '.join(KINDS)}")
    known, suffixes, draw = KINDS[kind]
    foreign = [name for name in sorted(_SPECIAL - known) if getattr(options, name) is not None]
    if foreign:
        raise ShowError(f"--kind {kind} has no option --{foreign[0]}")
    if out.suffix.lower() not in suffixes:
        raise ShowError(f"{out}: the file name for --kind {kind} ends in {' or '.join(suffixes)}")
    out.parent.mkdir(parents=True, exist_ok=True)
    return draw(snapshot, options, out)


def parse_numbers(text: str, option: str) -> list[float]:
    """Read numbers with commas between them, which an option has.

    Raises:
        WishError: written otherwise.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ShowError(f"{option} {text!r}: write numbers like 0,0.5,1") from None


def parse_layers(text: str) -> range:
    """Read layers written as `0-3`, or one as `2`.

    Raises:
        WishError: written otherwise.
    """
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if not match:
        raise ShowError(f"layers {text!r}: write them like 0-3")
    return range(int(match[1]), int(match[2] or match[1]) + 1)


def _walk(snapshot: Snapshot, options: ShowOptions, out: Path) -> str:
    if len(options.seeds) < 2:
        raise ShowError("a walk needs two seeds or more")
    walks, frames, fps = options.walks or 1, options.frames or 30, options.fps or 30
    if len(options.seeds) % walks or len(options.seeds) // walks < 2:
        raise ShowError(
            f"{walks} walks need two seeds or more each, and all the same number, not {len(options.seeds)} in total"
        )
    stations = len(options.seeds) // walks
    every = _in_turn(options.classes, len(options.seeds)) or snapshot.labels(options.seeds)
    ways = []
    for number in range(walks):
        seeds = options.seeds[number * stations : (number + 1) * stations]
        labels = every[number * stations : (number + 1) * stations]
        ways.append(walk(snapshot, seeds, labels, frames=frames, truncation=_truncation(options)))
    count = _film(out, map(torch.stack, zip(*ways, strict=True)), walks, options)
    return f"{count} frames, {count / fps:.1f} s, past {stations} seeds and back"


def _turn(snapshot: Snapshot, options: ShowOptions, out: Path) -> str:
    if len(options.conditions or ()) < 2:
        raise ShowError("--kind turn needs --conditions, two or more, such as '-0.8,0 0.8,0'")
    assert options.conditions is not None
    frames, seeds = options.frames or 30, options.seeds
    moving = turn(snapshot, seeds, options.conditions, frames=frames, truncation=_truncation(options))
    count = _film(out, moving, len(seeds), options)
    return f"{count} frames of {len(seeds)} seeds, past {len(options.conditions)} conditions and back"


def _film(out: Path, frames: Iterator[torch.Tensor], count: int, options: ShowOptions) -> int:
    """Write frames of `count` images each, uint8, side by side; return the number of frames."""
    columns = next(side for side in range(1, count + 1) if count % side == 0 and side * side >= count)
    grids: Iterator[Pixels] = (image_grid(one, columns, width=options.width, gap=int(count > 1)) for one in frames)
    return write_film(out, grids, fps=options.fps or 30)


def _styles(snapshot: Snapshot, options: ShowOptions, out: Path) -> str:
    columns = options.columns or [seed + max(options.seeds) + 1 for seed in range(6)]
    if options.classes and len(options.classes) > 1:
        raise ShowError("--class: a table of mixed styles shows a single class")
    label = options.classes[0] if options.classes else 0
    images = mix_table(snapshot, options.seeds, columns, label, layers=options.layers, truncation=_truncation(options))
    _save(images, len(columns) + 1, options, out)
    return f"{len(options.seeds)} rows with the styles of {len(columns)} columns"


def _truncations(snapshot: Snapshot, options: ShowOptions, out: Path) -> str:
    truncations = options.truncations or [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    labels = _in_turn(options.classes, len(options.seeds)) or snapshot.labels(options.seeds)
    _save(truncation_table(snapshot, options.seeds, labels, truncations), len(truncations), options, out)
    return f"{len(options.seeds)} seeds at truncation {', '.join(f'{value:g}' for value in truncations)}"


KINDS: dict[str, tuple[set[str], tuple[str, ...], Callable[[Snapshot, ShowOptions, Path], str]]] = {
    "walk": ({"truncation", "walks", "frames", "fps"}, SUFFIXES, _walk),
    "turn": ({"conditions", "truncation", "frames", "fps"}, SUFFIXES, _turn),
    "styles": ({"columns", "truncation", "layers"}, (".png", ".jpg", ".webp"), _styles),
    "truncation": ({"truncations"}, (".png", ".jpg", ".webp"), _truncations),
}
"""The options of each kind, the suffixes of its file, and the function that draws it."""

_SPECIAL = {name for known, _, _ in KINDS.values() for name in known}


def _truncation(options: ShowOptions) -> float:
    return 1.0 if options.truncation is None else options.truncation


def _in_turn(classes: Sequence[int] | None, count: int) -> list[int]:
    return [classes[number % len(classes)] for number in range(count)] if classes else []


def _save(images: torch.Tensor, columns: int, options: ShowOptions, out: Path) -> None:
    Image.fromarray(image_grid(images, columns, width=options.width)).save(out)

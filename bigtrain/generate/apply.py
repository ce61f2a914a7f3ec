"""Translate images on all ranks: `python -m bigtrain.generate.apply snapshot=FOLDER inputs=[…] out=FOLDER`."""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from bigtrain.core.config import Config
from bigtrain.core.errors import InputError, UserError
from bigtrain.core.logging import log, progress_bars
from bigtrain.core.quantise import to_uint8
from bigtrain.core.rng import Draws
from bigtrain.distributed.collectives import barrier, from_all_ranks, from_rank_zero, is_rank_zero
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.precision import autocast
from bigtrain.distributed.program import as_one_of_the_ranks, settings_of_program
from bigtrain.generate.continuation import continued, find_films
from bigtrain.generate.films import write_film
from bigtrain.generate.images import Source, find_sources, read_source, tell_what_is_left_aside
from bigtrain.generate.snapshot import DESCRIPTION, Snapshot, load_snapshot
from bigtrain.generate.tiles import Tiling, in_tiles
from data_pipelines.codec import Pixels
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.fields.video import VideoError, frames_of, rate_of
from data_pipelines.files import atomic_write, write_json
from data_pipelines.protocol import Rejected

NOTE, REJECTED = "apply.json", "rejected.jsonl"


class ApplySettings(Config):
    """What `bigtrain apply` translates.

    Attributes:
        snapshot: its folder.
        inputs: image files, folders or archives of images, arrays, or datasets (what `bigtrain fid` reads), and films;
            for a network that predicts frames, films and folders of films.
        out: folder of PNGs, and of MP4s for films; the same settings go on where they were interrupted.
        output: which of the network's outputs; null for the first.
        noise: let the network draw its own noise, such as dropout, by the image's number.
        precision: of the network's forward.
        tile: translate larger images in tiles of so many pixels a side; null for images as a whole.
        overlap: pixels around a tile that are computed with it.
        style: image whose style the output gets, of a network that takes one.
        keep_alpha: give the output the transparency of its image file, resized; otherwise transparency lies on white.
    """

    snapshot: Path
    inputs: tuple[str, ...]
    out: Path
    output: str | None = None
    noise: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    tile: PositiveInt | None = None
    overlap: NonNegativeInt = 32
    style: Path | None = None
    keep_alpha: bool = False


class Translation(NamedTuple):
    """One direction of a snapshot's networks.

    Attributes:
        source: name of the input field.
        target: name of the output field.
        input: what the input is.
        output: what the output is.
        multiple: what the sides of an image must be multiples of.
        fills_holes: whether the network fills transparent places.
        style: name of the input field of the style; None where the network takes none.
    """

    source: str
    target: str
    input: FieldSpec
    output: FieldSpec
    multiple: int
    fills_holes: bool = False
    style: str | None = None

    @property
    def continues_films(self) -> bool:
        """Whether the input is a clip, behind which the network predicts frames."""
        return self.input.kind == "video"


def translation_of(snapshot: Snapshot, folder: Path, output: str | None) -> Translation:
    """Find out what a snapshot translates.

    Args:
        snapshot: of a translator.
        folder: where it lies, for messages.
        output: which of its outputs; None for the first.

    Raises:
        UserError: it translates nothing, or has no such output.
    """
    sampler = snapshot.sampler
    given = [name for name, spec in sampler.inputs.items() if spec.kind in ("image", "video")]
    if not given:
        raise UserError(
            f"{folder}: this network generates images from seeds and cannot translate images; use bigtrain sample"
        )
    target = output or next(iter(sampler.outputs))
    if target not in sampler.outputs:
        raise UserError(f"--output {target}: {folder} makes {', '.join(sampler.outputs)}")
    source, *styles = sampler.sources(target)
    multiple = max(int(getattr(network, "multiple", 1)) for network in snapshot.networks.values())
    fills_holes = any(getattr(network, "fills_holes", False) for network in snapshot.networks.values())
    style = styles[0] if styles else None
    return Translation(source, target, sampler.inputs[source], sampler.outputs[target], multiple, fills_holes, style)


@dataclass
class Applier:
    """Translates images of any size that the network's layers allow, and smaller ones with their edges continued.

    Attributes:
        snapshot: whose networks; on the device.
        translation: which direction.
        device: where the networks are.
        noise: whether the network draws its own noise.
        tiling: of larger images; None translates them as a whole.
        style: the style image of a network that takes one, in [-1, 1], shape [1, C, H, W].
    """

    snapshot: Snapshot
    translation: Translation
    device: torch.device
    noise: bool = False
    tiling: Tiling | None = None
    style: Tensor | None = None

    @torch.inference_mode()
    def __call__(self, pixels: Pixels, number: int) -> Pixels:
        """Translate one image.

        Args:
            pixels: uint8, shape [C, H, W].
            number: of the image: its noise is a function of it.

        Returns:
            uint8, shape [C', H', W'], larger by what the network enlarges.

        Raises:
            InputError: the network does not take this image.
        """
        if self.translation.fills_holes and pixels[-1].min() > 127:
            raise InputError("no pixel is transparent: there is no hole to fill")
        image = torch.from_numpy(pixels.copy())[None]

        def translated(part: Tensor) -> Tensor:
            return to_uint8(self.translate(part.to(self.device).float() / 127.5 - 1, [number])).cpu()

        made = translated(image) if self.tiling is None else in_tiles(translated, image, self.tiling)
        result: Pixels = made[0].numpy()
        return result

    @torch.inference_mode()
    def translate(self, images: Tensor, numbers: Sequence[int]) -> Tensor:
        """Translate images of one size.

        Args:
            images: in [-1, 1], shape [N, C, H, W].
            numbers: of the images: their noise is a function of these.

        Returns:
            Images around [-1, 1], on the device, shape [N, C', H', W'].
        """
        height, width = images.shape[2:]
        padded = padded_to(images.to(self.device), self.translation.multiple)
        padded = padded.contiguous(memory_format=torch.channels_last)
        inputs = {self.translation.source: padded}
        if self.translation.style is not None and self.style is not None:
            inputs[self.translation.style] = self.style.to(self.device).expand(len(padded), -1, -1, -1)
        made = self.snapshot.sampler(
            self.snapshot.networks,
            inputs,
            Draws(0, torch.tensor(numbers, device=self.device), "apply"),
            **({"noise": True} if self.noise else {}),
        )[self.translation.target]
        tall, wide = made.shape[2] / padded.shape[2], made.shape[3] / padded.shape[3]
        return made[:, :, : round(height * tall), : round(width * wide)]


def padded_to(image: Tensor, multiple: int) -> Tensor:
    """Continue an image's edges to the right and downwards until its sides are multiples of a number."""
    height, width = image.shape[2:]
    below, right = -height % multiple, -width % multiple
    return F.pad(image, (0, right, 0, below), mode="replicate") if below or right else image


def apply(settings: ApplySettings, ranks: Ranks) -> str:
    """Translate all images; return what to tell the user. Collective.

    Raises:
        UserError: snapshot, inputs or output folder are not what they should be.
    """
    snapshot = load_snapshot(settings.snapshot).to(ranks.device)
    translation = translation_of(snapshot, settings.snapshot, settings.output)
    _check_whole(settings, translation)
    _check_alpha(settings, translation)
    _check_out(settings)
    style = _style(settings, translation)
    if translation.continues_films:
        sources = find_films(settings.inputs)
    else:
        sources = find_sources(settings.inputs, translation.source, translation.input)
    problem = from_rank_zero(_open_folder(settings) if is_rank_zero() else None)
    if problem:
        raise UserError(problem)
    tell_what_is_left_aside(sources)
    applier = Applier(snapshot, translation, ranks.device, settings.noise, _tiling(settings, translation), style)
    rejected, done, rates = [], 0, []
    mine = list(enumerate(sources))[ranks.rank :: ranks.world_size]
    with progress_bars() as bars, autocast(ranks.device.type, settings.precision):
        task = bars.add_task("translating", total=len(mine), note="", visible=is_rank_zero())
        for count, (number, source) in enumerate(mine, 1):
            path = settings.out / source.file
            if not path.is_file():
                try:
                    if source.film is not None:
                        rate = rate_of(source.film)
                        _write_film(path, _frames_of(applier, source.film, number), rate)
                        if _is_other(rate, translation):
                            rates.append(f"{source.name}: {float(rate):g} frames per second")
                    else:
                        _write(path, _translated(applier, source, number, settings.keep_alpha))
                    done += 1
                except Rejected as error:
                    rejected.append({"image": source.name, "reason": error.reason, "detail": error.detail})
                except (InputError, VideoError) as error:
                    rejected.append({"image": source.name, "reason": "refused", "detail": str(error)})
            bars.update(task, completed=count, note=f"{count * ranks.world_size:,}/{len(sources):,}")
    barrier()
    counts, lists = from_all_ranks(done), from_all_ranks(rejected)
    others = [words for found in from_all_ranks(rates) for words in found]
    everything = [entry for entries in lists for entry in entries]
    if is_rank_zero():
        with atomic_write(settings.out / REJECTED) as file:
            file.write("".join(f"{json.dumps(entry)}\n" for entry in everything).encode())
        for entry in everything[:3]:
            log.warning("%s: %s: %s", *entry.values())
        if others:
            log.warning(
                "%s, but the network was trained on %g and predicts at that pace: %d of the films have another rate",
                others[0],
                translation.input.rate,
                len(others),
            )
    there = len(sources) - sum(counts) - len(everything)
    what = "images and films" if any(source.film for source in sources) else "images"
    summary = f"{settings.out}: {sum(counts)} {what} translated"
    summary += f", {there} existed already" if there else ""
    return summary + (f", {len(everything)} could not be read (see {settings.out / REJECTED})" if everything else "")


def _frames_of(applier: Applier, film: Path, number: int) -> Iterator[Pixels]:
    """Yield the frames of the film that one is translated into, or that continues it."""
    translation = applier.translation
    if translation.continues_films:
        names = (translation.source, translation.target)
        yield from continued(film, applier.snapshot, *names, number, noise=applier.noise)
    else:
        for frame in frames_of(film, translation.input.shape[0]):
            yield applier(frame, number)


def _translated(applier: Applier, source: Source, number: int, keep_alpha: bool) -> Pixels:
    """Return what an image is translated into, with the image's transparency if that is kept and there is some."""
    channels = applier.translation.input.shape[0]
    if not keep_alpha or source.item is None:
        return applier(read_source(source, channels), number)
    pixels = read_source(source, channels + 1)
    made, alpha = applier(pixels[:-1], number), pixels[-1]
    if alpha.min() == 255:
        return made
    size = (made.shape[2], made.shape[1])
    return np.concatenate([made, np.asarray(Image.fromarray(alpha).resize(size, Image.Resampling.BICUBIC))[None]])


def _check_whole(settings: ApplySettings, translation: Translation) -> None:
    if translation.continues_films and (settings.tile or settings.keep_alpha):
        option = "--tile" if settings.tile else "--keep-alpha"
        raise UserError(f"{option}: {settings.snapshot} continues films, whose frames have one size; leave it out")


def _is_other(rate: Fraction, translation: Translation) -> bool:
    """Tell whether a film to be continued has another frame rate than the network's clips, by more than a twentieth."""
    known = translation.input.rate
    return translation.continues_films and known is not None and abs(float(rate) / known - 1) > 0.05


def _check_out(settings: ApplySettings) -> None:
    out = settings.out.resolve()
    for one in map(Path, settings.inputs):
        if one.is_dir() and out.is_relative_to(one.resolve()):
            raise UserError(
                f"--out {settings.out}: lies inside of {one}, so that a second run would translate what the first one "
                "wrote; choose a folder outside of it"
            )


def _check_alpha(settings: ApplySettings, translation: Translation) -> None:
    for name, spec in ((translation.source, translation.input), (translation.target, translation.output)):
        if settings.keep_alpha and spec.shape[0] not in (1, 3):
            raise UserError(
                f"--keep-alpha: is of networks of grey or RGB images, but '{name}' has {spec.shape[0]} channels"
            )


def _style(settings: ApplySettings, translation: Translation) -> Tensor | None:
    """Return the style image, [1, C, H, W] in [-1, 1]; None where the network takes none."""
    if translation.style is None:
        if settings.style is not None:
            raise UserError(
                f"--style {settings.style}: the network of {settings.snapshot} takes no style; leave it out"
            )
        return None
    if settings.style is None:
        raise UserError(f"{settings.snapshot}: this network takes a style: name an image, as in --style painting.jpg")
    found = find_sources([str(settings.style)], translation.style, translation.output)
    if len(found) > 1 or found[0].film is not None:
        raise UserError(f"--style {settings.style}: name one image, not a folder of several or a film")
    try:
        pixels = read_source(found[0], translation.output.shape[0])
    except Rejected as error:
        raise UserError(f"--style {settings.style}: {error.reason} ({error.detail})") from None
    return torch.from_numpy(pixels.copy())[None].float() / 127.5 - 1


def _tiling(settings: ApplySettings, translation: Translation) -> Tiling | None:
    if settings.tile is None:
        return None
    tiling = Tiling(settings.tile, settings.overlap)
    try:
        tiling.check(translation.multiple)
    except ValueError as error:
        raise UserError(str(error)) from None
    return tiling


def _open_folder(settings: ApplySettings) -> str | None:
    """Make the output folder; return what is wrong with it."""
    weights = hashlib.sha256((settings.snapshot / DESCRIPTION).read_bytes()).hexdigest()
    asked = {**settings.model_dump(mode="json"), "snapshot_sha256": weights}
    note = settings.out / NOTE
    if note.is_file():
        if json.loads(note.read_text()) != asked:
            return f"{settings.out}: contains images of other settings or another snapshot; choose another --out"
    elif settings.out.exists() and (not settings.out.is_dir() or any(settings.out.iterdir())):
        return f"{settings.out}: exists and is not empty; choose another --out"
    settings.out.mkdir(parents=True, exist_ok=True)
    for left in settings.out.rglob(".*.partial*"):  # of an interrupted run, which the images that follow replace
        left.unlink(missing_ok=True)
    write_json(note, asked)
    return None


def _write(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    with atomic_write(path) as file:
        picture.save(file, "PNG")


def _write_film(path: Path, frames: Iterator[Pixels], rate: Fraction) -> None:
    pictures = (frame[0] if len(frame) == 1 else np.ascontiguousarray(frame.transpose(1, 2, 0)) for frame in frames)
    write_film(path, pictures, fps=rate)


def main(settings: ApplySettings | None = None) -> NoReturn:
    """Run as one of the ranks; without settings, by the words `key=value` of the command line."""
    settings = settings or settings_of_program(ApplySettings, "bigtrain.generate.apply")
    with as_one_of_the_ranks() as ranks:
        summary = apply(settings, ranks)
        if is_rank_zero():
            print(summary)
    sys.exit(0)


if __name__ == "__main__":
    main()

"""Translate images on all ranks: `python -m bigtrain.generate.apply snapshot=FOLDER inputs=[…] out=FOLDER`."""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from bigtrain.generate.snapshot import DESCRIPTION, Snapshot, load_snapshot
from bigtrain.generate.tiles import Tiling, in_tiles
from data_pipelines.codec import Pixels
from data_pipelines.content import HEAD, image_format
from data_pipelines.errors import DataError
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.files import atomic_write, write_json
from data_pipelines.manifest import FILE_NAME as MANIFEST
from data_pipelines.manifest import IMAGE
from data_pipelines.order import Location
from data_pipelines.prepare import open_images
from data_pipelines.prepare.names import is_image, stem_of
from data_pipelines.protocol import ImageProtocol, Rejected, measure
from data_pipelines.read import DamageError, ShardDataset
from data_pipelines.source import FileReader, Where
from data_pipelines.source import Source as Images

NOTE, REJECTED = "apply.json", "rejected.jsonl"


class ApplySettings(Config):
    """What `bigtrain apply` translates.

    Attributes:
        snapshot: its folder.
        inputs: image files, folders or archives of images, arrays, or datasets: what `bigtrain fid` reads.
        out: folder of PNGs; the same settings go on where they were interrupted.
        output: which of the network's outputs; null for the first.
        noise: let the network draw its own noise, such as dropout, by the image's number.
        precision: of the network's forward.
        tile: translate larger images in tiles of so many pixels a side; null for images as a whole.
        overlap: pixels around a tile that are computed with it.
    """

    snapshot: Path
    inputs: tuple[str, ...]
    out: Path
    output: str | None = None
    noise: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    tile: PositiveInt | None = None
    overlap: NonNegativeInt = 32


class Source(NamedTuple):
    """An image to translate.

    Attributes:
        name: of the output, without ending, relative to the output folder.
        place: where the image is, for messages.
        sample: of a dataset, and the field that is read; None for another source.
        item: of another source, and where its image is there; None for a dataset.
    """

    name: str
    place: str
    sample: tuple[ShardDataset, str, Location] | None = None
    item: tuple[Images, Where] | None = None


class Translation(NamedTuple):
    """One direction of a snapshot's networks.

    Attributes:
        source: name of the input field.
        target: name of the output field.
        input: what the input is.
        output: what the output is.
        multiple: what the sides of an image must be multiples of.
    """

    source: str
    target: str
    input: FieldSpec
    output: FieldSpec
    multiple: int


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
    given = [name for name, spec in sampler.inputs.items() if spec.kind == "image"]
    if not given:
        raise UserError(
            f"{folder}: this network generates images from seeds and cannot translate images; use bigtrain sample"
        )
    target = output or next(iter(sampler.outputs))
    if target not in sampler.outputs:
        raise UserError(f"--output {target}: {folder} makes {', '.join(sampler.outputs)}")
    (source,) = sampler.sources(target)
    multiple = max(int(getattr(network, "multiple", 1)) for network in snapshot.networks.values())
    return Translation(source, target, sampler.inputs[source], sampler.outputs[target], multiple)


def find_sources(inputs: Sequence[str], field: str, spec: FieldSpec) -> list[Source]:
    """List the images to translate, in the order in which people would.

    Args:
        inputs: image files, folders or archives of images, arrays, or datasets.
        field: of the datasets' samples; a dataset without it is read by its field `image`, or its first of images.
        spec: what the network reads.

    Raises:
        UserError: there are none, the network cannot read them, or two would be written to one file.
    """
    sources = [source for one in inputs for source in _sources_in(Path(one), field.rpartition(".")[2], spec)]
    names: dict[str, Source] = {}
    for source in sources:
        if source.name in names:
            both = f"{names[source.name].place} and {source.place}"
            raise UserError(f"{both} would be written to one {source.name}.png; translate them to two --out folders")
        names[source.name] = source
    if not sources:
        raise UserError(f"{', '.join(inputs)}: no images in it")
    return sources


def _sources_in(path: Path, field: str, spec: FieldSpec) -> Iterator[Source]:
    if (path / MANIFEST).is_file():
        dataset = ShardDataset(path)
        images = {name: found for name, found in dataset.manifest.fields.items() if found.kind == "image"}
        if not images:
            raise UserError(f"{path}: has no field of images, its fields are {', '.join(dataset.manifest.fields)}")
        chosen = field if field in images else IMAGE if IMAGE in images else next(iter(images))
        found = images[chosen]
        if (found.shape[0], found.dtype) != (spec.shape[0], spec.dtype):
            raise UserError(
                f"{path}: the images of '{chosen}' have {found.shape[0]} channels of {found.dtype}, the network reads "
                f"{spec.shape[0]} of {spec.dtype}"
            )
        for number, location in enumerate(dataset.locations()):
            yield Source(f"{number:08d}", f"{path} ({number:08d})", sample=(dataset, chosen, location))
    elif path.is_file() and _is_one_image(path):
        only = Images(path.stem, [], FileReader(path.parent), (), "", str(path))
        yield Source(path.stem, str(path), item=(only, path.name))
    else:
        opened = _open_images(path)
        chosen = field if field in opened.images else opened.images[0]
        for item in opened.items:
            where = item.where if chosen == opened.first else item.fields[chosen]
            assert not isinstance(where, bytes)  # as texts are
            name = stem_of(item.name) if is_image(item.name) else item.name
            yield Source(name, f"{path}/{item.name}", item=(opened, where))


def _is_one_image(path: Path) -> bool:
    with path.open("rb") as file:
        return is_image(path.name) or image_format(file.read(HEAD)) is not None


def _open_images(path: Path) -> Images:
    try:
        return open_images(path)
    except DataError as error:
        raise UserError(str(error)) from None


def _tell_what_is_left_aside(sources: Sequence[Source]) -> None:
    opened = {id(source.item[0]): source.item[0] for source in sources if source.item is not None}
    for images in opened.values():
        aside = [f"ignored: {images.left_aside.words}"] if images.left_aside.total else []
        for words in (*images.notes, *aside):
            log.info("%s: %s", images.origin, words)


@dataclass
class Applier:
    """Translates images of any size that the network's layers allow, and smaller ones with their edges continued.

    Attributes:
        snapshot: whose networks; on the device.
        translation: which direction.
        device: where the networks are.
        noise: whether the network draws its own noise.
        tiling: of larger images; None translates them as a whole.
    """

    snapshot: Snapshot
    translation: Translation
    device: torch.device
    noise: bool = False
    tiling: Tiling | None = None

    @torch.inference_mode()
    def __call__(self, pixels: Pixels, number: int) -> Pixels:
        """Translate one image.

        Args:
            pixels: uint8, shape [C, H, W].
            number: of the image: its noise is a function of it.

        Returns:
            uint8, shape [C', H', W'], larger by what the network enlarges.
        """
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
        made = self.snapshot.sampler(
            self.snapshot.networks,
            {self.translation.source: padded},
            Draws(0, torch.tensor(numbers, device=self.device), "apply"),
            noise=self.noise,
        )[self.translation.target]
        tall, wide = made.shape[2] / padded.shape[2], made.shape[3] / padded.shape[3]
        return made[:, :, : round(height * tall), : round(width * wide)]


def padded_to(image: Tensor, multiple: int) -> Tensor:
    """Continue an image's edges to the right and downwards until its sides are multiples of a number."""
    height, width = image.shape[2:]
    below, right = -height % multiple, -width % multiple
    return F.pad(image, (0, right, 0, below), mode="replicate") if below or right else image


def read_source(source: Source, channels: int) -> Pixels:
    """Return an image's pixels, uint8, shape [channels, H, W], upright.

    Raises:
        Rejected: it cannot be read.
    """
    if source.sample is not None:
        dataset, field, location = source.sample
        try:
            pixels: Pixels = dataset.read([location], [field])[field][0]
        except DamageError as error:
            raise Rejected("damaged", str(error)) from None
        return pixels
    assert source.item is not None
    images, where = source.item
    data = images.read(where)
    return ImageProtocol(*measure(data), channels, crop="exact").apply(data)


def apply(settings: ApplySettings, ranks: Ranks) -> str:
    """Translate all images; return what to tell the user. Collective.

    Raises:
        UserError: snapshot, inputs or output folder are not what they should be.
    """
    snapshot = load_snapshot(settings.snapshot).to(ranks.device)
    translation = translation_of(snapshot, settings.snapshot, settings.output)
    sources = find_sources(settings.inputs, translation.source, translation.input)
    problem = from_rank_zero(_open_folder(settings) if is_rank_zero() else None)
    if problem:
        raise UserError(problem)
    _tell_what_is_left_aside(sources)
    applier = Applier(snapshot, translation, ranks.device, settings.noise, _tiling(settings, translation))
    rejected, done = [], 0
    mine = list(enumerate(sources))[ranks.rank :: ranks.world_size]
    with progress_bars() as bars, autocast(ranks.device.type, settings.precision):
        task = bars.add_task("translating", total=len(mine), note="", visible=is_rank_zero())
        for count, (number, source) in enumerate(mine, 1):
            path = settings.out / f"{source.name}.png"
            if not path.is_file():
                try:
                    pixels = read_source(source, translation.input.shape[0])
                    _write(path, applier(pixels, number))
                    done += 1
                except Rejected as error:
                    rejected.append({"image": source.name, "reason": error.reason, "detail": error.detail})
                except InputError as error:
                    rejected.append({"image": source.name, "reason": "refused", "detail": str(error)})
            bars.update(task, completed=count, note=f"{count * ranks.world_size:,}/{len(sources):,}")
    barrier()
    counts, lists = from_all_ranks(done), from_all_ranks(rejected)
    everything = [entry for entries in lists for entry in entries]
    if is_rank_zero():
        with atomic_write(settings.out / REJECTED) as file:
            file.write("".join(f"{json.dumps(entry)}\n" for entry in everything).encode())
        for entry in everything[:3]:
            log.warning("%s: %s: %s", *entry.values())
    there = len(sources) - sum(counts) - len(everything)
    summary = f"{settings.out}: {sum(counts)} images translated"
    summary += f", {there} existed already" if there else ""
    return summary + (f", {len(everything)} could not be read (see {settings.out / REJECTED})" if everything else "")


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
    write_json(note, asked)
    return None


def _write(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    with atomic_write(path) as file:
        picture.save(file, "PNG")


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

"""Commands on datasets: `bigtrain data …`."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from bigtrain.core.signals import end_on_signals

if TYPE_CHECKING:
    from data_pipelines.manifest import Manifest
    from data_pipelines.preparation import Part
    from data_pipelines.prepare.run import PrepareOptions
    from data_pipelines.source import Source

_AS_GIVEN = ("upscale", "channels", "codec", "quality", "shard_samples", "max_samples", "name", "licence")
"""Options of `prepare` that `PrepareOptions` has by the same names."""
_OF_SOURCE = ("kind", "split", "direction", "label", "encoding")
"""Options of `prepare` that say how a source is read, by the names of `open_source`."""

app = typer.Typer(no_args_is_help=True, help="Prepare, describe and check datasets.")


@app.command()
def prepare(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="A name, a path, KIND:PATH, pairs:INPUTS,TARGETS, or URLs of tars; see docs/how-to/data.md."
        ),
    ],
    dest: Annotated[Path, typer.Argument(help="Folder of the dataset.")],
    kind: Annotated[str | None, typer.Option(help="Kind of the source; default: detected from its content.")] = None,
    split: Annotated[str, typer.Option(help="Split of a source that has splits: all, train, val or test.")] = "all",
    label: Annotated[
        str | None, typer.Option(help="Column, array or key of the labels; none: prepare without classes.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Encoding of tables and of names in archives; default: UTF-8.")
    ] = None,
    direction: Annotated[
        str, typer.Option(help="Direction of pairs: AtoB, or BtoA, which exchanges inputs and targets.")
    ] = "AtoB",
    resolution: Annotated[
        str | None, typer.Option(help="Size of the images: 256, or 128x256 (height x width); default: unchanged.")
    ] = None,
    crop: Annotated[str | None, typer.Option(help="center, none (changes the aspect ratio) or pad.")] = None,
    resize: Annotated[str, typer.Option(help="Resize filter: lanczos, bicubic, bilinear, box or nearest.")] = "lanczos",
    upscale: Annotated[
        bool, typer.Option("--upscale", help="Enlarge smaller images, which are rejected otherwise.")
    ] = False,
    channels: Annotated[
        int | None,
        typer.Option(help="Channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; for sounds 1 or 2, for videos 1 or 3."),
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(help="Samples per second to which sounds are resampled; frames per second taken from videos."),
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Number of frames of clips; shorter videos are rejected.")] = None,
    stride: Annotated[int, typer.Option(help="Take one of so many frames of videos.")] = 1,
    seconds: Annotated[
        float | None, typer.Option(help="Length of sounds; shorter ones are followed by silence.")
    ] = None,
    cut: Annotated[
        str, typer.Option(help="How longer sounds and videos are cut: first, center, or windows (one sample each).")
    ] = "first",
    voxels: Annotated[
        int | None, typer.Option(help="Make volumes of meshes, of so many voxels along each axis.")
    ] = None,
    points: Annotated[
        int | None, typer.Option(help="Make point clouds of meshes, of so many points on the surface.")
    ] = None,
    views: Annotated[
        int | None, typer.Option(help="Render so many pictures of each mesh, at --resolution, with the camera's pose.")
    ] = None,
    yaw: Annotated[
        str | None, typer.Option(metavar="MIN,MAX", help="Yaw of the views' cameras in radians; default: all around.")
    ] = None,
    pitch: Annotated[
        str | None, typer.Option(metavar="MIN,MAX", help="Pitch of the views' cameras in radians; default: -0.5,0.5.")
    ] = None,
    pixel_limit: Annotated[int | None, typer.Option(help="Reject images with more pixels.")] = None,
    codec: Annotated[str | None, typer.Option(help="png, jpeg, webp, npy, or source (copy files unchanged).")] = None,
    quality: Annotated[int, typer.Option(help="Quality of jpeg and webp, 1 to 100.")] = 95,
    shard_samples: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of samples per shard; default: 1000.")
    ] = None,
    shard_size: Annotated[str | None, typer.Option(help="Approximate size of a shard, such as 256M.")] = None,
    max_samples: Annotated[int | None, typer.Option(help="Maximum number of samples of the source.")] = None,
    test: Annotated[int, typer.Option(help="Number of samples to hold out in DEST-test.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the shuffle before samples are divided into shards.")] = 0,
    keep_order: Annotated[bool, typer.Option("--keep-order", help="Do not shuffle.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Number of processes; default: one per core.")] = None,
    part: Annotated[
        str | None,
        typer.Option(metavar="i/N", help="Make only this part of the shards, such as 0/8; a call without it finishes."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the dataset; default: that of the source.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the images, for the manifest.")] = None,
) -> None:
    """Prepare a dataset of shards from a source.

    After an interruption, the same command continues and produces the same bytes. Exit code 3: stopped by a signal.
    """
    end_on_signals("the same command goes on")
    from bigtrain.core.logging import progress_bars
    from data_pipelines.preparation import Part
    from data_pipelines.prepare import open_source
    from data_pipelines.prepare.clip_form import ClipForm
    from data_pipelines.prepare.mesh_form import MeshForm, parse_range
    from data_pipelines.prepare.sound_form import SoundForm

    own, options = Part.parse(part) if part else None, _prepare_options(context.params)
    of_source: dict[str, Any] = {option: context.params[option] for option in _OF_SOURCE}
    sounds = SoundForm(rate, channels, seconds, cast(Any, cut))
    size = (options.resolution, options.crop, options.filter, options.upscale, options.channels)
    clips = ClipForm(frames, rate, stride, cast(Any, cut), *size)
    angles: dict[str, Any] = {
        option: parse_range(option, text) for option, text in (("yaw", yaw), ("pitch", pitch)) if text
    }
    meshes = MeshForm(voxels, points, views, options.resolution, **angles)
    with progress_bars() as bars:
        task = bars.add_task(f"fetching {source}", visible=False, note="")
        images = open_source(
            source,
            scratch=dest.parent,
            sounds=sounds,
            clips=clips,
            meshes=meshes,
            on_fetched=lambda done, of: bars.update(task, completed=done, total=of, visible=True, note=f"{done}/{of}"),
            **of_source,
        )
    _print_summary(_prepare(images, dest, options, workers or len(os.sched_getaffinity(0)), own))
    if own:
        typer.echo(
            f"{dest}: part {part} is complete; when all {own.of} are, the same command without --part finishes it"
        )
    _print_source(source, images)


def parse_prepare(words: Sequence[str]) -> tuple[Path, str | None]:
    """Return the folder and the part that `prepare` is told by these words, which a job will give it.

    Raises:
        UsageError: it does not take them.
    """
    group = cast(Any, typer.main.get_command(app))  # of the click that typer carries along
    with group.commands["prepare"].make_context("bigtrain data prepare", list(words)) as context:
        given = context.params
    _prepare_options(given)
    return given["dest"], given["part"]


def _prepare_options(given: Mapping[str, Any]) -> "PrepareOptions":
    """Return how a source is prepared, from the options of `prepare` by name."""
    from data_pipelines.pictures import PIXEL_LIMIT
    from data_pipelines.prepare.run import PrepareOptions, parse_bytes, parse_resolution

    return PrepareOptions(
        resolution=parse_resolution(given["resolution"]) if given["resolution"] else None,
        crop=given["crop"],
        filter=given["resize"],
        pixel_limit=given["pixel_limit"] or PIXEL_LIMIT,
        shard_bytes=parse_bytes(given["shard_size"]) if given["shard_size"] else None,
        test_samples=given["test"],
        seed=None if given["keep_order"] else given["seed"],
        **{option: given[option] for option in _AS_GIVEN},
    )


def _prepare(
    images: "Source", dest: Path, options: "PrepareOptions", workers: int, part: "Part | None"
) -> "dict[Path, Manifest]":
    """Make the sets behind a bar of progress; return their manifests."""
    from bigtrain.core.logging import progress_bars
    from data_pipelines.prepare.run import prepare as prepare_source

    total = min(len(images.items), options.max_samples or len(images.items))
    with progress_bars() as bars:
        task = bars.add_task(f"preparing {images.name}", total=total, note="")
        return prepare_source(
            images,
            dest,
            options,
            workers=workers,
            on_progress=lambda done: bars.update(task, completed=done, note=f"{done:,}/{total:,}"),
            part=part,
        )


def _print_summary(made: "dict[Path, Manifest]") -> None:
    """Say what is in the sets that were made."""
    from data_pipelines.preparation import REJECTED

    for folder, manifest in made.items():
        counts = f"images: {manifest.count}, shards: {len(manifest.shards)}, rejected: {manifest.rejected}"
        listed = f" (see {folder / REJECTED})" if manifest.rejected else ""
        typer.echo(f"{folder}: {counts}{listed}, digest: {manifest.digest[:12]}")


def _print_source(source: str, images: "Source") -> None:
    """Say what was found in a source, and what was ignored."""
    from data_pipelines.prepare.names import first_of
    from data_pipelines.prepare.run import dark_note, frames_note

    classes = f"{len(images.classes)} ({first_of(images.classes, 6)})" if images.classes else "none"
    typer.echo(f"{source}: classes: {classes}")
    if images.left_aside.total:
        typer.echo(f"{source}: ignored, not part of a sample: {images.left_aside.words}")
    for note in (*images.notes, *dark_note(images), *frames_note(images)):
        typer.echo(f"{source}: {note}")


@app.command()
def info(
    place: Annotated[str, typer.Argument(metavar="FOLDER", help="Folder of a dataset, or its URL.")],
    out: Annotated[
        Path | None, typer.Option(help="PNG file to write; default: contact_sheet.png in the folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Describe a dataset, and write a contact sheet with one row per class."""
    from bigtrain.core.logging import counted
    from bigtrain.report.dataset_info import CONTACT_SHEET, describe, facts_of, picture_fields, write_contact_sheet
    from data_pipelines.read import ShardDataset

    dataset = ShardDataset(place, run_commands=False)
    if as_json:
        typer.echo(json.dumps(facts_of(dataset.manifest), indent=1))
        return
    describe(dataset.manifest)
    if out is None and not picture_fields(dataset.manifest):
        return
    out = out or dataset.folder / CONTACT_SHEET
    with counted("drawing", None):
        write_contact_sheet(dataset, out)
    typer.echo(f"contact sheet: {out}")


@app.command()
def show(
    config: Annotated[Path, typer.Argument(help="YAML file of a run.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Overrides of keys of the config.")] = None,
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("data.png"),
) -> None:
    """Write a picture of what the networks of a run see: cropped and mirrored samples, and derived fields."""
    from bigtrain.config import load_training
    from bigtrain.core.logging import counted
    from bigtrain.run.shown_data import write_sheet

    with counted("drawing", None):
        columns = write_sheet(load_training(config, overrides or []), out)
    typer.echo(f"{out}: {', '.join(columns)}")


@app.command()
def verify(
    place: Annotated[str, typer.Argument(metavar="FOLDER", help="Folder of a dataset, or its URL.")],
    deep: Annotated[
        bool,
        typer.Option(
            "--deep", help="Hash every shard, compare tars with indexes, and decode every field of every sample."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a dataset against its manifest. The exit code is 1 if anything is damaged."""
    from bigtrain.core.logging import progress_bars
    from bigtrain.report.dataset_info import show_faults
    from data_pipelines.verify import verify as verify_dataset

    with progress_bars() as bars:
        task = bars.add_task(f"verifying {place}", total=None, note="")
        faults = verify_dataset(
            place,
            deep=deep,
            on_start=lambda shards: bars.update(task, total=shards),
            on_shard=lambda: bars.advance(task),
        )
    if as_json:
        typer.echo(json.dumps([vars(fault) for fault in faults], indent=1))
    else:
        show_faults(faults)
        typer.echo(f"{place}: {len(faults) or 'no'} fault{'s' * (len(faults) != 1)} found")
    raise typer.Exit(1 if faults else 0)

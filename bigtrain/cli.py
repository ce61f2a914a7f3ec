"""The `bigtrain` command: one thin function a sub-command. What it does lives elsewhere; here it is named and shown."""

import json
import math
import os
import sys
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import typer

from bigtrain.core.config import ConfigError
from data_pipelines.errors import DataError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Distributed, large-scale GAN training.",
)
data_app = typer.Typer(no_args_is_help=True, help="Make, describe and check datasets of shards.")
config_app = typer.Typer(no_args_is_help=True, help="Look at configs.")
app.add_typer(data_app, name="data")
interop_app = typer.Typer(no_args_is_help=True, help="Compare with reference implementations.")
app.add_typer(config_app, name="config")
app.add_typer(interop_app, name="interop")

ChoiceT = TypeVar("ChoiceT", bound=str)

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file, see configs/.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Dotted overrides, such as ema.half_life_kimg=20.")
]


@app.command()
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    nproc: Annotated[int | None, typer.Option(help="Ranks on this machine; default: one a GPU, or one.")] = None,
    allow_config_change: Annotated[bool, typer.Option(help="Go on in a run folder of another config.")] = False,
) -> None:
    """Train, or go on: the same command on an existing run folder resumes. Exit code 3: stopped, saved, can go on."""
    import torch

    from bigtrain.build import check
    from bigtrain.config import AnyTraining
    from bigtrain.core.config import load_config
    from bigtrain.run_folder import how_it_ended
    from launch.local import run_ranks

    nproc = nproc or max(torch.cuda.device_count(), 1)
    loaded = load_config(AnyTraining, config, overrides or [])
    check(loaded, world_size=nproc, allow_change=allow_config_change)
    arguments = [config, *(overrides or []), *(["--allow-config-change"] if allow_config_change else [])]
    code = run_ranks("bigtrain.train", arguments, nproc=nproc)
    ending, code = how_it_ended(loaded, code)
    typer.echo(ending)
    raise typer.Exit(code)


@app.command()
def evaluate(
    snapshot: Annotated[Path, typer.Argument(help="A snapshot folder.")],
    data: Annotated[Path, typer.Option(help="The dataset to compare with.")],
    samples: Annotated[int, typer.Option(min=2, help="Images to generate.")] = 50_000,
    reference_samples: Annotated[int | None, typer.Option(min=2, help="Real images; default: all.")] = None,
    dtype: Annotated[str, typer.Option(help="Precision of the features: fp32 or bf16.")] = "fp32",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    nproc: Annotated[int, typer.Option(min=1, help="Ranks on this machine.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Score a snapshot against a dataset."""
    from launch.local import run_ranks

    arguments = [str(snapshot), f"--data={data}", f"--samples={samples}", f"--dtype={dtype}", f"--seed={seed}"]
    arguments += [f"--reference-samples={reference_samples}"] if reference_samples else []
    raise typer.Exit(run_ranks("bigtrain.evaluate", [*arguments, *(["--json"] if as_json else [])], nproc=nproc))


@app.command()
def sample(
    snapshot: Annotated[Path, typer.Argument(help="A snapshot folder.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")],
    seeds: Annotated[str, typer.Option(help="Seeds, one image each: 0-63, or 1,5,9-12.")] = "0-63",
    label: Annotated[str | None, typer.Option("--class", help="Class index or name; default: from the seed.")] = None,
    truncation: Annotated[float, typer.Option(min=0.0, help="1 for the whole distribution, less for fidelity.")] = 1.0,
    cutoff: Annotated[int | None, typer.Option(min=1, help="Truncate the first layers only (StyleGAN).")] = None,
    columns: Annotated[int, typer.Option(min=1, help="Images a row.")] = 8,
) -> None:
    """Write a grid of images; an image depends on its seed and class only."""
    from PIL import Image

    from bigtrain.evaluation.evaluator import to_uint8
    from bigtrain.pictures import image_grid
    from bigtrain.snapshot import load_snapshot, parse_seeds

    numbers = parse_seeds(seeds)
    loaded = load_snapshot(snapshot)
    labels = None if label is None else [loaded.class_index(label)] * len(numbers)
    images = loaded.sample(numbers, labels, truncation=truncation, cutoff=cutoff)
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image_grid(to_uint8(images), columns)).save(out)
    typer.echo(f"{out}: {len(numbers)} images")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help=".pkl of StyleGAN2-ADA or 3; .pth of BigGAN, R3GAN, StyleGAN2.")],
    out: Annotated[Path, typer.Option(help="Snapshot folder to make.")],
    discriminator: Annotated[Path | None, typer.Option(help="The discriminator's own file, where it has one.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="What the file does not tell.")
    ] = None,
) -> None:
    """Turn others' weights into a snapshot; nothing in the file is run."""
    from bigtrain.core.config import apply_overrides
    from bigtrain.interop.importing import import_weights

    told = import_weights(file, out, discriminator=discriminator, settings=apply_overrides({}, settings or []))
    typer.echo("\n".join([f"{out}:", *(f"  {line}" for line in told)]))


@app.command()
def export(
    snapshot: Annotated[Path, typer.Argument(help="A snapshot folder.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    format_: Annotated[str, typer.Option("--format", help="safetensors, torch-export or onnx.")],
    truncation: Annotated[float, typer.Option(min=0.0, help="Built into the program.")] = 1.0,
) -> None:
    """Write a snapshot's generator for use elsewhere, checked as it is written."""
    from bigtrain.interop.exporting import FORMATS, export_snapshot

    error = export_snapshot(snapshot, out, _one_of("--format", format_, tuple(FORMATS)), truncation=truncation)
    typer.echo(f"{out}: {out.stat().st_size / 2**20:.1f} MiB, largest difference {error:.1e} of the images' scale")


@app.command()
def sync(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    uri: Annotated[str | None, typer.Option(help="Tracking server; default: the run's own.")] = None,
) -> None:
    """Send to MLflow what is in a run's spool and has not been sent."""
    from bigtrain.tracking.sender import send_run

    if not (run / "metrics.jsonl").is_file():
        raise ConfigError(f"{run}: not a run folder, metrics.jsonl is missing")
    raise typer.Exit(0 if send_run(run, uri=uri, experiment=None) else 1)


@app.command()
def health(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how a run is: what is wrong, since when, the evidence, what helps. Exit code 1 if something is critical."""
    from bigtrain.core.logging import console
    from bigtrain.health.report import is_critical, read_report, table

    report = read_report(run)
    if as_json:
        typer.echo(json.dumps(report, indent=1))
    else:
        console.print(table(report))
    raise typer.Exit(1 if is_critical(report) else 0)


@app.command()
def doctor() -> None:
    """Show what this machine has, what is missing, and what that costs."""
    from bigtrain.doctor import examine, show

    show(examine())


@data_app.command()
def prepare(
    source: Annotated[str, typer.Argument(help="A name, a path, or KIND:PATH; see docs/data.md.")],
    dest: Annotated[Path, typer.Argument(help="Folder to make.")],
    kind: Annotated[str | None, typer.Option(help="Kind of the source; default: what it looks like.")] = None,
    split: Annotated[str, typer.Option(help="Part of a source that has parts: all, train, test.")] = "all",
    resolution: Annotated[str | None, typer.Option(help="256, or 128x256 (height x width); default: as it is.")] = None,
    crop: Annotated[str | None, typer.Option(help="center, none (the aspect is not kept) or pad.")] = None,
    resize: Annotated[str, typer.Option(help="lanczos, bicubic, bilinear, box or nearest.")] = "lanczos",
    upscale: Annotated[bool, typer.Option(help="Enlarge smaller images; else they are rejected.")] = False,
    channels: Annotated[int | None, typer.Option(help="1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.")] = None,
    pixel_limit: Annotated[int | None, typer.Option(help="Reject images of more pixels.")] = None,
    codec: Annotated[str | None, typer.Option(help="png, jpeg, webp, npy, or source: files as they are.")] = None,
    quality: Annotated[int, typer.Option(help="Of jpeg and webp, 1 to 100.")] = 95,
    shard_samples: Annotated[int | None, typer.Option(min=1, help="Samples a shard, at most: 1000.")] = None,
    shard_size: Annotated[str | None, typer.Option(help="Size of a shard, about: 256M.")] = None,
    max_samples: Annotated[int | None, typer.Option(help="Take no more than this many.")] = None,
    test: Annotated[int, typer.Option(help="Hold out this many, in DEST-test.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the shuffle before the shards are cut.")] = 0,
    keep_order: Annotated[bool, typer.Option(help="Do not shuffle.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a core.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the set; default: the source's.")] = None,
    licence: Annotated[str | None, typer.Option(help="Of the images, for the record.")] = None,
) -> None:
    """Build shards; the same command goes on after a kill, and the result is the same."""
    from bigtrain.core.logging import progress_bars
    from data_pipelines.preparation import REJECTED
    from data_pipelines.prepare import open_source
    from data_pipelines.prepare.run import Wishes, parse_bytes, parse_resolution
    from data_pipelines.prepare.run import prepare as prepare_source
    from data_pipelines.protocol import PIXEL_LIMIT

    wishes = Wishes(
        resolution=parse_resolution(resolution) if resolution else None,
        crop=cast(Any, crop),
        filter=cast(Any, resize),
        upscale=upscale,
        channels=channels,
        pixel_limit=pixel_limit or PIXEL_LIMIT,
        codec=codec,
        quality=quality,
        shard_samples=shard_samples,
        shard_bytes=parse_bytes(shard_size) if shard_size else None,
        max_samples=max_samples,
        test_samples=test,
        seed=None if keep_order else seed,
        name=name,
        licence=licence,
    )
    images = open_source(source, kind=kind, split=split)
    total = min(len(images.items), max_samples or len(images.items))
    with progress_bars() as bars:
        task = bars.add_task(f"preparing {images.name}", total=total, note="")
        made = prepare_source(
            images,
            dest,
            wishes,
            workers=workers or len(os.sched_getaffinity(0)),
            on_progress=lambda done: bars.update(task, completed=done, note=f"{done:,}/{total:,}"),
        )
    for folder, manifest in made.items():
        counts = f"images: {manifest.count}, shards: {len(manifest.shards)}, rejected: {manifest.rejected}"
        listed = f" (see {folder / REJECTED})" if manifest.rejected else ""
        typer.echo(f"{folder}: {counts}{listed}, digest: {manifest.digest[:12]}")
    if images.left_aside:
        typer.echo(f"{source}: files left aside, no images: {images.left_aside}")


@data_app.command()
def info(
    place: Annotated[str, typer.Argument(metavar="FOLDER", help="A dataset's folder, or its URL.")],
    out: Annotated[Path | None, typer.Option(help="PNG to write; default: contact_sheet.png in the folder.")] = None,
) -> None:
    """Describe a dataset, and write a contact sheet of it, one row a class."""
    from bigtrain.dataset_info import CONTACT_SHEET, describe, write_contact_sheet
    from data_pipelines.read import ShardDataset

    dataset = ShardDataset(place)
    describe(dataset.manifest)
    out = out or dataset.folder / CONTACT_SHEET
    write_contact_sheet(dataset, out)
    typer.echo(f"contact sheet: {out}")


@data_app.command()
def verify(
    place: Annotated[str, typer.Argument(metavar="FOLDER", help="A dataset's folder, or its URL.")],
    deep: Annotated[
        bool, typer.Option(help="Hash every shard, compare tars with indexes, decode every image.")
    ] = False,
) -> None:
    """Check a dataset against its manifest; exit code 1 if anything is wrong."""
    from bigtrain.core.logging import progress_bars
    from bigtrain.dataset_info import show_faults
    from data_pipelines.verify import verify as verify_dataset

    with progress_bars() as bars:
        task = bars.add_task(f"verifying {place}", total=None, note="")
        faults = verify_dataset(
            place,
            deep=deep,
            on_start=lambda shards: bars.update(task, total=shards),
            on_shard=lambda: bars.advance(task),
        )
    show_faults(faults)
    typer.echo(f"{place}: {len(faults) or 'no'} fault{'s' * (len(faults) != 1)} found")
    raise typer.Exit(1 if faults else 0)


@config_app.command("show")
def config_show(
    config: ConfigFile,
    overrides: Overrides = None,
    params: Annotated[bool, typer.Option("--params", help="A table of the networks' parameters instead.")] = False,
) -> None:
    """Print a config with all its defaults and overrides resolved."""
    from bigtrain.config import AnyTraining
    from bigtrain.core.config import dump_yaml, load_config
    from bigtrain.parameter_table import show_parameters

    loaded = load_config(AnyTraining, config, overrides or [])
    if params:
        show_parameters(loaded)
    else:
        typer.echo(dump_yaml(loaded), nl=False)


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of a config."""
    from bigtrain.config import AnyTraining

    typer.echo(json.dumps(AnyTraining.model_json_schema(), indent=1))


@interop_app.command("check")
def interop_check(
    folder: Annotated[Path, typer.Argument(help="A folder of golden numbers: config, weights, inputs and outputs.")],
    path: Annotated[
        str, typer.Option(help="fast, as trained; or reference, every operator by its definition.")
    ] = "fast",
    precision: Annotated[str, typer.Option(help="fp32; or bf16, whose errors are only reported.")] = "fp32",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Compare our networks with a reference's numbers; exit code 1 past tolerance."""
    import torch

    from bigtrain.interop.check import check

    findings = check(
        folder,
        path=_one_of("--path", path, ("fast", "reference")),
        precision=_one_of("--precision", precision, ("fp32", "bf16")),
        device=torch.device(_one_of("--device", device, ("cpu", "cuda"))),
    )
    wrong = [finding for finding in findings if not finding.fits] if precision == "fp32" else []
    errors = {finding.name: finding.error if math.isfinite(finding.error) else None for finding in findings}
    facts = {"folder": str(folder), "path": path, "precision": precision, "device": device}
    typer.echo(json.dumps({**facts, "passed": not wrong, "errors": errors}))
    for finding in wrong:
        typer.echo(f"bigtrain: {folder}: {finding}", err=True)
    raise typer.Exit(1 if wrong else 0)


def _one_of(option: str, value: str, choices: tuple[ChoiceT, ...]) -> ChoiceT:
    for choice in choices:
        if value == choice:
            return choice
    raise ConfigError(f"{option} {value!r}: use {' or '.join(choices)}")


def main() -> None:
    """Run the command; a user's mistake is one line and exit code 2, never a traceback."""
    from bigtrain.core.errors import UserError

    try:
        app()
    except (UserError, DataError) as error:
        print(f"bigtrain: {error}", file=sys.stderr)
        sys.exit(2)

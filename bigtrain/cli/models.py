"""Commands on generators: sample, interpolate, average anew, import, export."""

from pathlib import Path
from typing import Annotated

import typer

from bigtrain.cli.options import one_of, run_program, settings_from

app = typer.Typer()

Snapshot = Annotated[Path, typer.Argument(help="Folder of a snapshot.")]
Classes = Annotated[
    str | None,
    typer.Option(
        "--class", help="Class by index or name, several separated by commas, or all; default: drawn from the seed."
    ),
]


@app.command()
def sample(
    snapshot: Snapshot,
    out: Annotated[Path, typer.Option(help="File or folder to write: a picture, an .npz file, or a folder.")],
    format_: Annotated[
        str | None, typer.Option("--format", help="grid, folder, npz or shards; default: from the ending of --out.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, one image each: 0-63 (default), or 1,5,9-12.")] = None,
    label: Classes = None,
    condition: Annotated[
        str | None,
        typer.Option(help="Numbers that condition every image, such as a camera's 0.5,-0.1; default: from the seed."),
    ] = None,
    truncation: Annotated[
        float | None, typer.Option(help="1 (default) for the whole distribution; less trades variety for fidelity.")
    ] = None,
    cutoff: Annotated[int | None, typer.Option(help="Truncate only this number of first layers (StyleGAN).")] = None,
    columns: Annotated[
        int | None, typer.Option(help="Images per row of a grid; default: 8, or one row per class.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Images per batch and rank; default: 64.")] = None,
    precision: Annotated[str | None, typer.Option(help="Precision of the generator: fp32 (default) or bf16.")] = None,
    nproc: Annotated[int, typer.Option(min=1, help="Number of ranks on this machine.")] = 1,
) -> None:
    """Generate images. Each depends only on its seed and class, not on the batch or the number of ranks."""
    from bigtrain.generate.ranks import SampleSettings
    from bigtrain.generate.show import parse_numbers

    settings = settings_from(
        SampleSettings,
        "sample",
        snapshot=snapshot,
        out=out,
        format=format_,
        seeds=seeds,
        label=label,
        condition=None if condition is None else parse_numbers(condition, "condition"),
        truncation=truncation,
        cutoff=cutoff,
        columns=columns,
        batch=batch,
        precision=precision,
    )
    run_program("bigtrain.generate.ranks", settings, nproc=nproc)


@app.command()
def apply(
    snapshot: Snapshot,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT", help="Image files, films, folders or archives of images, or datasets; films to continue."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for the PNG and MP4 files; after an interruption, the same command continues.")
    ],
    output: Annotated[
        str | None,
        typer.Option(help="Name of the output if there are several, such as A.image; default: the first."),
    ] = None,
    noise: Annotated[
        bool, typer.Option("--noise", help="Let the network draw its own noise, such as dropout.")
    ] = False,
    precision: Annotated[str | None, typer.Option(help="Precision of the network: fp32 (default) or bf16.")] = None,
    tile: Annotated[
        int | None, typer.Option(min=1, help="Translate larger images in tiles with sides of this number of pixels.")
    ] = None,
    overlap: Annotated[int | None, typer.Option(min=0, help="Margin of a tile in pixels; default: 32.")] = None,
    style: Annotated[
        Path | None, typer.Option(help="Image whose style the outputs get, of a network for that.")
    ] = None,
    keep_alpha: Annotated[
        bool, typer.Option("--keep-alpha", help="Give outputs the transparency of their image files.")
    ] = False,
    nproc: Annotated[int, typer.Option(min=1, help="Number of ranks on this machine.")] = 1,
) -> None:
    """Translate images of any size with the networks of a snapshot, or continue films."""
    from bigtrain.generate.apply import ApplySettings

    settings = settings_from(
        ApplySettings,
        "apply",
        snapshot=snapshot,
        inputs=inputs,
        out=out,
        output=output,
        noise=noise,
        precision=precision,
        tile=tile,
        overlap=overlap,
        style=style,
        keep_alpha=keep_alpha,
    )
    run_program("bigtrain.generate.apply", settings, nproc=nproc)


@app.command()
def interpolate(
    snapshot: Snapshot,
    out: Annotated[Path, typer.Option(help="Film (.gif, .mp4) of a walk; picture for the other kinds.")],
    kind: Annotated[str, typer.Option(help="walk, styles (a table of mixed styles), truncation or turn.")] = "walk",
    seeds: Annotated[str, typer.Option(help="Seeds of the walk or of the table's rows: 0-5, or 1,5,9-12.")] = "0-5",
    label: Classes = None,
    columns: Annotated[str | None, typer.Option(help="styles: seeds of the columns; default: the next six.")] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="styles: layers that take the style of the column, such as 0-3; default: the first half."),
    ] = None,
    truncation: Annotated[
        float | None, typer.Option(min=0.0, help="walk, styles, turn: truncation; 1 for the whole distribution.")
    ] = None,
    truncations: Annotated[
        str | None, typer.Option(help="truncation: values of the columns; default: 0,0.2,0.4,0.6,0.8,1.")
    ] = None,
    conditions: Annotated[
        str | None,
        typer.Option(help="turn: conditions between which all seeds move, such as '-0.8,0 0.8,0' for a camera's."),
    ] = None,
    walks: Annotated[
        int | None, typer.Option(min=1, help="walk: number of walks side by side, among which the seeds are divided.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="walk, turn: frames from one seed or condition to the next; default: 30.")
    ] = None,
    fps: Annotated[int | None, typer.Option(min=1, help="walk, turn: frames per second; default: 30.")] = None,
    width: Annotated[int, typer.Option(min=1, help="Approximate width of the picture in pixels.")] = 640,
) -> None:
    """Interpolate between images: a walk or a turn as a film, mixed styles, or a range of truncation values."""
    from bigtrain.core.logging import counted
    from bigtrain.generate.show import ShowOptions, parse_layers, parse_numbers, show
    from bigtrain.generate.snapshot import load_snapshot, parse_seeds

    loaded = load_snapshot(snapshot)
    options = ShowOptions(
        seeds=parse_seeds(seeds),
        classes=None if label is None else loaded.class_indices(label),
        columns=None if columns is None else parse_seeds(columns),
        truncation=truncation,
        truncations=None if truncations is None else parse_numbers(truncations, "truncations"),
        layers=None if layers is None else parse_layers(layers),
        conditions=None if conditions is None else [parse_numbers(one, "conditions") for one in conditions.split()],
        walks=walks,
        frames=frames,
        fps=fps,
        width=width,
    )
    with counted("generating", None):
        shown = show(kind, loaded, options, out)
    typer.echo(f"{out}: {shown}")


@app.command()
def ema(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder whose snapshots contain ema.profiles.")],
    sigma_rel: Annotated[float, typer.Option(help="Width of the average as a share of the run, 0.01 to 0.25.")],
    out: Annotated[Path, typer.Option(help="Folder of the new snapshot.")],
    kimg: Annotated[
        float | None, typer.Option(help="Position in kimg at which the average ends; default: the last snapshot.")
    ] = None,
) -> None:
    """Reconstruct the averaged generator of another width after training (post-hoc EMA, Karras et al. 2024)."""
    from bigtrain.core.logging import counted
    from bigtrain.generate.posthoc_ema import reconstruct

    with counted("averaging", None):
        distance = reconstruct(run, sigma_rel, out, kimg=kimg)
    typer.echo(f"{out}: average of width {sigma_rel:g}; its profile is {distance:.1%} off")
    if distance > 0.1:
        typer.echo("bigtrain: more snapshots, or profiles nearer to this width, would come closer", err=True)


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(help=".pkl of StyleGAN2-ADA or 3; .pth of BigGAN, R3GAN, StyleGAN2, pix2pix, CycleGAN, ESRGAN."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new snapshot.")],
    discriminator: Annotated[Path | None, typer.Option(help="File of the discriminator, if it has its own.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting that the file does not contain.")
    ] = None,
) -> None:
    """Turn published weights into a snapshot. No code in the file is run."""
    from bigtrain.core.config import apply_overrides
    from bigtrain.core.logging import counted
    from bigtrain.interop.importing import import_weights

    with counted("importing", None):
        lines = import_weights(file, out, discriminator=discriminator, settings=apply_overrides({}, settings or []))
    typer.echo("\n".join([f"{out}:", *(f"  {line}" for line in lines)]))


@app.command()
def export(
    snapshot: Annotated[Path, typer.Argument(help="Folder of a snapshot.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    format_: Annotated[str, typer.Option("--format", help="safetensors, torch-export or onnx.")],
    truncation: Annotated[
        float | None, typer.Option(min=0.0, help="Truncation that is built into a generator's program; default: none.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(help="Name of a translator's output if there are several, such as A.image; default: the first."),
    ] = None,
) -> None:
    """Export the generator or a translator of a snapshot, and compare the result with it."""
    from bigtrain.core.logging import counted
    from bigtrain.interop.exporting import FORMATS, export_snapshot

    with counted("exporting", None):
        chosen = one_of("--format", format_, tuple(FORMATS))
        error = export_snapshot(snapshot, out, chosen, truncation=truncation, output=output)
    typer.echo(f"{out}: {out.stat().st_size / 2**20:.1f} MiB, largest difference {error:.1e} of the images' scale")

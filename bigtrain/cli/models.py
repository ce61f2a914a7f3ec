"""Commands on generators: sample, import, export."""

from pathlib import Path
from typing import Annotated

import typer

from bigtrain.cli.options import one_of

app = typer.Typer()


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

    from bigtrain.core.quantise import to_uint8
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

    error = export_snapshot(snapshot, out, one_of("--format", format_, tuple(FORMATS)), truncation=truncation)
    typer.echo(f"{out}: {out.stat().st_size / 2**20:.1f} MiB, largest difference {error:.1e} of the images' scale")

"""Commands that compare sets of images."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

Place = Annotated[str, typer.Argument(help="Folder or zip of images, shards, a snapshot, or statistics (.npz).")]


@app.command()
def fid(
    generated: Place,
    reference: Place,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="As often as you like; default: fid. Of features: fid, sfid, kid, inception_score, precision_recall, "
            "density_coverage, mmd, memorisation, intra_fid, class_fid; of pairs, by order of names: psnr, ssim, lpips."
        ),
    ] = None,
    extractor: Annotated[
        str,
        typer.Option(
            help="inception-v3-compat, efficientnet-lite0, vgg16, file:PATH; auto: the first if its weights are there, "
            "else the second, which the score's name tells."
        ),
    ] = "auto",
    weights: Annotated[Path | None, typer.Option(help="The extractor's file of weights, or its folder.")] = None,
    dtype: Annotated[str, typer.Option(help="Precision of the features: fp32 or bf16.")] = "fp32",
    samples: Annotated[int, typer.Option(min=2, help="Images of a snapshot.")] = 50_000,
    seed: Annotated[int, typer.Option(min=0, help="Of a snapshot's images.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 32,
    nproc: Annotated[int, typer.Option(min=1, help="Ranks on this machine.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Compare two sets of images: what pytorch-fid does, and more of it, faster."""
    arguments = [generated, reference, f"--extractor={extractor}", f"--dtype={dtype}"]
    arguments += [f"--samples={samples}", f"--seed={seed}", f"--batch={batch}"]
    arguments += [f"--metric={name}" for name in metric or ["fid"]]
    arguments += [*([f"--weights={weights}"] if weights else []), *(["--json"] if as_json else [])]
    if nproc == 1:
        from bigtrain.fid import main

        main(arguments)
    from launch.local import run_ranks

    raise typer.Exit(run_ranks("bigtrain.fid", arguments, nproc=nproc))

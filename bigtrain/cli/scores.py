"""Commands that compare sets of images."""

from pathlib import Path
from typing import Annotated

import typer

from bigtrain.cli.options import run_program, settings_from
from bigtrain.cli.plugins import NamesScoringPlugins

app = typer.Typer()

Place = Annotated[
    str, typer.Argument(help="Images (folder, zip, tar, .npz, .npy), shards, a snapshot, or statistics (.npz).")
]


@app.command(cls=NamesScoringPlugins)
def fid(
    generated: Place,
    reference: Place,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="Default: fid. Can be repeated. Of features: fid, sfid, kid, inception_score, precision_recall, "
            "density_coverage, mmd, memorisation, intra_fid, class_fid; of pairs: psnr, ssim, lpips, "
            "perceptual."
        ),
    ] = None,
    extractor: Annotated[
        str | None,
        typer.Option(
            help="inception-v3-compat, efficientnet-lite0, vgg16, file:PATH; auto (default): the first if its weights "
            "are available, otherwise the second; the name of the score says which."
        ),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="File or folder of the extractor's weights.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Precision of the features: fp32 (default) or bf16.")] = None,
    samples: Annotated[
        int | None, typer.Option(help="Number of images to generate from a snapshot; default: 50,000.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of a snapshot's images; default: 0.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images per batch; default: 32.")] = None,
    kid_subset_size: Annotated[
        int | None, typer.Option(help="Number of images in each of KID's subsets; default: 1,000.")
    ] = None,
    nproc: Annotated[int, typer.Option(min=1, help="Number of ranks on this machine.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Compare two sets of images with FID and other metrics."""
    from bigtrain.evaluation.fid import Comparison

    settings = settings_from(
        Comparison,
        "fid",
        generated=generated,
        reference=reference,
        metrics=metric,
        extractor=extractor,
        dtype=dtype,
        weights=weights,
        samples=samples,
        seed=seed,
        batch=batch,
        kid_subset_size=kid_subset_size,
        as_json=as_json,
    )
    run_program("bigtrain.evaluation.fid", settings, nproc=nproc)


@app.command()
def ppl(
    snapshot: Annotated[Path, typer.Argument(help="Folder of a snapshot.")],
    metric: Annotated[
        list[str] | None,
        typer.Option(help="ppl_zfull, ppl_zend, ppl_wfull, ppl_wend, lpips_diversity; default: ppl_zfull."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of the weights vgg16 and lpips-vgg16.")] = None,
    samples: Annotated[
        int | None, typer.Option(help="Number of paths, or of pairs of images; default: 50,000.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the latents; default: 0.")] = None,
    batch: Annotated[int | None, typer.Option(help="Paths per batch; default: 16.")] = None,
    nproc: Annotated[int, typer.Option(min=1, help="Number of ranks on this machine.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Compute the perceptual path length of a generator, or LPIPS between its images."""
    from bigtrain.evaluation.ppl import PathSettings

    settings = settings_from(
        PathSettings,
        "ppl",
        snapshot=snapshot,
        metrics=metric,
        weights=weights,
        samples=samples,
        seed=seed,
        batch=batch,
        as_json=as_json,
    )
    run_program("bigtrain.evaluation.ppl", settings, nproc=nproc)

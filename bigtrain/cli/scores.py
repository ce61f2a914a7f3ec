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
            help="As often as you like; default: fid. Of features: fid, sfid, kid, inception_score, precision_recall, "
            "density_coverage, mmd, memorisation, intra_fid, class_fid; of pairs, by name: psnr, ssim, lpips, "
            "perceptual."
        ),
    ] = None,
    extractor: Annotated[
        str | None,
        typer.Option(
            help="inception-v3-compat, efficientnet-lite0, vgg16, file:PATH; auto (default): the first if its weights "
            "are there, else the second, which the score's name tells."
        ),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="The extractor's file of weights, or its folder.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Precision of the features: fp32 (default) or bf16.")] = None,
    samples: Annotated[int | None, typer.Option(help="Images of a snapshot; default: 50,000.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of a snapshot's images; default: 0.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images at once; default: 32.")] = None,
    kid_subset_size: Annotated[
        int | None, typer.Option(help="Images of each of KID's subsets; default: 1,000.")
    ] = None,
    nproc: Annotated[int, typer.Option(min=1, help="Ranks on this machine.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Compare two sets of images: what pytorch-fid does, and more of it, faster."""
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
    snapshot: Annotated[Path, typer.Argument(help="A snapshot folder.")],
    metric: Annotated[
        list[str] | None,
        typer.Option(help="ppl_zfull, ppl_zend, ppl_wfull, ppl_wend, lpips_diversity; default: ppl_zfull."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of the weights vgg16 and lpips-vgg16.")] = None,
    samples: Annotated[int | None, typer.Option(help="Paths, or pairs of images; default: 50,000.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the latents; default: 0.")] = None,
    batch: Annotated[int | None, typer.Option(help="Paths at once; default: 16.")] = None,
    nproc: Annotated[int, typer.Option(min=1, help="Ranks on this machine.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Score how a generator's images change with its latents: perceptual path length, LPIPS between pairs."""
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

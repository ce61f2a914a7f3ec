"""Commands that compare sets of images."""

from pathlib import Path
from typing import Annotated

import typer

from bigtrain.cli.options import one_of, run_program

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
    precision = one_of("--dtype", dtype, ("fp32", "bf16"))
    arguments = [generated, reference, f"--extractor={extractor}", f"--dtype={precision}"]
    arguments += [f"--samples={samples}", f"--seed={seed}", f"--batch={batch}"]
    arguments += [f"--metric={name}" for name in metric or ["fid"]]
    arguments += [*([f"--weights={weights}"] if weights else []), *(["--json"] if as_json else [])]
    run_program("bigtrain.evaluation.fid", arguments, nproc=nproc)


@app.command()
def ppl(
    snapshot: Annotated[Path, typer.Argument(help="A snapshot folder.")],
    metric: Annotated[
        list[str] | None,
        typer.Option(help="ppl_zfull, ppl_zend, ppl_wfull, ppl_wend, lpips_diversity; default: ppl_zfull."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of the weights vgg16 and lpips-vgg16.")] = None,
    samples: Annotated[int, typer.Option(min=2, help="Paths, or pairs of images.")] = 50_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the latents.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Paths at once.")] = 16,
    nproc: Annotated[int, typer.Option(min=1, help="Ranks on this machine.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Score how a generator's images change with its latents: perceptual path length, LPIPS between pairs."""
    from bigtrain.evaluation.generator_metrics import GENERATOR_METRICS

    names = [one_of("--metric", name, tuple(GENERATOR_METRICS)) for name in metric or ["ppl_zfull"]]
    arguments = [str(snapshot), *(f"--metric={name}" for name in names), *([f"--weights={weights}"] if weights else [])]
    arguments += [f"--samples={samples}", f"--seed={seed}", f"--batch={batch}", *(["--json"] if as_json else [])]
    run_program("bigtrain.evaluation.ppl", arguments, nproc=nproc)

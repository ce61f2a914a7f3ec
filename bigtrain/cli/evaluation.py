"""Commands that score."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from bigtrain.cli.options import run_program, settings_from
from bigtrain.cli.plugins import NamesScoringPlugins
from bigtrain.core.errors import ConfigError

app = typer.Typer()

_OF_SCORES = ("pairs", "samples", "reference_samples", "reference", "extractor", "weights", "dtype", "kid_subset_size")
_OF_SAMPLES = ("snapshot", "truncation", "ema", "precision", "seed", "seeds", "on_corrupt")
"""Options that settings call as the command does."""


@app.command(cls=NamesScoringPlugins)
def evaluate(
    context: typer.Context,
    snapshot: Annotated[Path | None, typer.Argument(help="Folder of a snapshot; with --watch a run folder.")] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Dataset to compare with, or NAME=DIR for each stream; default: that of the run."),
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(help="fid, kid, …; can be repeated. Default: fid.")] = None,
    pairs: Annotated[
        list[str] | None, typer.Option(help="psnr, ssim, lpips or perceptual: compare outputs with their targets.")
    ] = None,
    samples: Annotated[int | None, typer.Option(min=2, help="Number of images to generate; default: 50,000.")] = None,
    reference_samples: Annotated[int | None, typer.Option(min=2, help="Number of real images; default: all.")] = None,
    reference: Annotated[str | None, typer.Option(help="Published statistics (.npz) to compare with.")] = None,
    extractor: Annotated[
        str | None, typer.Option(help="Network that computes features; see docs/reference/metrics.md.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="File or folder of the extractor's weights.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Precision of the features: fp32 or bf16.")] = None,
    kid_subset_size: Annotated[
        int | None, typer.Option(help="Number of images in each of KID's subsets; default: 1,000.")
    ] = None,
    truncation: Annotated[
        float | None, typer.Option(help="Truncation of the latents (psi); default: 1, for none.")
    ] = None,
    ema: Annotated[str | None, typer.Option(help="Width of a power-function average, such as 0.05.")] = None,
    precision: Annotated[str | None, typer.Option(help="Precision of the generator: fp32 (default) or bf16.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the latents; default: 0.")] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Number of seeds to average over, from --seed on; default: 1.")
    ] = None,
    on_corrupt: Annotated[
        str | None, typer.Option(help="For damaged reference images: replace (default) or fail.")
    ] = None,
    nproc: Annotated[int, typer.Option(min=1, help="Number of ranks on this machine.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Score the snapshots of a run as they appear.")] = False,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Compare existing scores of two JSON files, snapshots or runs.")
    ] = None,
) -> None:
    """Score a snapshot against a dataset, watch a run, or compare scores.

    Every score is stored with its protocol; scores with different protocols are not compared.
    """
    if compare is not None:
        _show_comparison(*compare, as_json=as_json)
        return
    if snapshot is None:
        raise ConfigError("evaluate: name a snapshot folder, or two evaluations to --compare")
    from bigtrain.run.evaluate import EvaluateSettings, WatchSettings

    scores = {"metrics": metric, **{name: context.params[name] for name in _OF_SCORES}}
    if watch:
        from bigtrain.core.config import config_to_words
        from launch.local import run_ranks

        chosen = {name: value for name, value in scores.items() if value is not None}
        watched = settings_from(WatchSettings, "evaluate --watch", run=snapshot, scores=chosen)
        raise typer.Exit(run_ranks("bigtrain.run.watch", config_to_words(watched), nproc=nproc))
    others = {name: context.params[name] for name in _OF_SAMPLES}
    settings = settings_from(EvaluateSettings, "evaluate", **scores, **others, data=_places(data), as_json=as_json)
    run_program("bigtrain.run.evaluate", settings, nproc=nproc)


def _show_comparison(one: Path, other: Path, *, as_json: bool) -> None:
    from bigtrain.core.logging import console
    from bigtrain.report.comparison import compare, compare_as_json

    if as_json:
        typer.echo(json.dumps(compare_as_json(one, other)))
    else:
        console.print(compare(one, other))


def _places(data: list[str] | None) -> str | dict[str, str] | None:
    """Return a dataset, or one for each stream from words such as `A=DIR`.

    Raises:
        ConfigError: there are several without names.
    """
    named = {}
    for place in data or ():
        match = re.fullmatch(r"(\w+)=(.+)", place)
        if match:
            named[match[1]] = match[2]
        elif len(data or ()) == 1:
            return place
        else:
            raise ConfigError(f"--data {place}: name each stream's dataset: --data A=DIR --data B=DIR")
    return named or None

"""Commands that score."""

import json
from pathlib import Path
from typing import Annotated

import typer

from bigtrain.cli.options import one_of, run_program
from bigtrain.core.config import ConfigError

app = typer.Typer()


@app.command()
def evaluate(
    snapshot: Annotated[Path | None, typer.Argument(help="A snapshot folder; a run folder with --watch.")] = None,
    data: Annotated[Path | None, typer.Option(help="The dataset to compare with; default: the run's.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="fid, kid, …; as often as you like. Default: fid.")] = None,
    samples: Annotated[int | None, typer.Option(min=2, help="Images to generate; default: 50,000.")] = None,
    reference_samples: Annotated[int | None, typer.Option(min=2, help="Real images; default: all.")] = None,
    reference: Annotated[str | None, typer.Option(help="Published statistics (.npz) to compare with.")] = None,
    extractor: Annotated[str | None, typer.Option(help="Network of the features; see docs/metrics.md.")] = None,
    weights: Annotated[str | None, typer.Option(help="Its weights.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Precision of the features: fp32 or bf16.")] = None,
    truncation: Annotated[float, typer.Option(min=0.0, help="Of the latents (psi); 1 for none.")] = 1.0,
    ema: Annotated[str | None, typer.Option(help="Width of a power-function average, such as 0.05.")] = None,
    precision: Annotated[str, typer.Option(help="Of the generator: fp32 or bf16.")] = "fp32",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Average over so many, from --seed on.")] = 1,
    on_corrupt: Annotated[str, typer.Option(help="Damaged reference images: replace or fail.")] = "replace",
    nproc: Annotated[int, typer.Option(min=1, help="Ranks on this machine.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
    watch: Annotated[bool, typer.Option(help="Score a run's snapshots as they appear, into its MLflow run.")] = False,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Compare two: JSON files, snapshots or runs. Computes nothing.")
    ] = None,
) -> None:
    """Score a snapshot against a dataset, watch a run, or compare scores.

    Every score carries the protocol that it was made by; scores of different protocols are not compared.
    """
    if compare is not None:
        from bigtrain.core.logging import console
        from bigtrain.report.comparison import compare as compare_scores

        console.print(compare_scores(*compare))
        return
    if snapshot is None:
        raise ConfigError("evaluate: name a snapshot folder, or two evaluations to --compare")
    chosen = {
        "metrics": metric,
        "samples": samples,
        "reference_samples": reference_samples,
        "reference": reference,
        "extractor": extractor,
        "weights": weights,
        "dtype": dtype,
    }
    config = f"--config={json.dumps({key: value for key, value in chosen.items() if value is not None})}"
    if watch:
        from launch.local import run_ranks

        raise typer.Exit(run_ranks("bigtrain.run.watch", [str(snapshot), config], nproc=nproc))
    one_of("--precision", precision, ("fp32", "bf16"))
    one_of("--on-corrupt", on_corrupt, ("replace", "fail"))
    arguments = [str(snapshot), config, *([f"--data={data}"] if data else []), *(["--json"] if as_json else [])]
    arguments += [f"--seed={seed}", f"--seeds={seeds}", f"--truncation={truncation}", f"--precision={precision}"]
    arguments += [f"--on-corrupt={on_corrupt}", *([f"--ema={ema}"] if ema else [])]
    run_program("bigtrain.evaluation.evaluate", arguments, nproc=nproc)

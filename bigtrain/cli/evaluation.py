"""Commands that score."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


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

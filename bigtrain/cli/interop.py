"""Commands that compare with reference implementations: `bigtrain interop …`."""

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from bigtrain.cli.options import one_of

app = typer.Typer(no_args_is_help=True, help="Compare with reference implementations.")


@app.command("check")
def interop_check(
    folder: Annotated[Path, typer.Argument(help="Folder of golden vectors: config, weights, inputs and outputs.")],
    path: Annotated[
        str, typer.Option(help="fast, as in training; or reference, which computes every operator by its definition.")
    ] = "fast",
    precision: Annotated[str, typer.Option(help="fp32; or bf16, for which errors are only reported.")] = "fp32",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Compare networks with the numbers of a reference implementation. The exit code is 1 if they differ."""
    import torch

    from bigtrain.core.logging import counted
    from bigtrain.interop.check import check

    with counted("comparing", None):
        findings = check(
            folder,
            path=one_of("--path", path, ("fast", "reference")),
            precision=one_of("--precision", precision, ("fp32", "bf16")),
            device=torch.device(one_of("--device", device, ("cpu", "cuda"))),
        )
    wrong = [finding for finding in findings if not finding.fits] if precision == "fp32" else []
    errors = {finding.name: finding.error if math.isfinite(finding.error) else None for finding in findings}
    facts = {"folder": str(folder), "path": path, "precision": precision, "device": device}
    typer.echo(json.dumps({**facts, "passed": not wrong, "errors": errors}))
    for finding in wrong:
        typer.echo(f"bigtrain: {folder}: {finding}", err=True)
    raise typer.Exit(1 if wrong else 0)

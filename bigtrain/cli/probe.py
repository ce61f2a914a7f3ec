"""Commands on probes: extractors of features that are trained on a dataset itself."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bigtrain.cli.options import settings_from

if TYPE_CHECKING:
    import torch

app = typer.Typer(no_args_is_help=True, help="Train feature extractors on your own data.")

_OPTIONS = ("dataset", "held_out", "field", "share", "epochs", "batch", "lr", "seed")


@app.callback()
def _group() -> None:
    """Let `train` be a command of its own, though it is the only one."""


@app.command()
def train(
    context: typer.Context,
    dataset: Annotated[Path, typer.Argument(help="Dataset to train on.")],
    out: Annotated[Path, typer.Option(help="File to write, NAME.safetensors.")],
    held_out: Annotated[
        Path | None, typer.Option(help="Dataset to measure the accuracy on; default: a part of DATASET.")
    ] = None,
    field: Annotated[
        str | None, typer.Option(help="Field to classify; default: the only one that is not a class.")
    ] = None,
    share: Annotated[float | None, typer.Option(help="Share to hold out without --held-out; default: 0.2.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Number of epochs; default: 30.")] = None,
    batch: Annotated[int | None, typer.Option(help="Samples per step; default: 32.")] = None,
    lr: Annotated[float | None, typer.Option(help="Maximum learning rate; default: 0.003.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the weights and the order; default: 0.")] = None,
) -> None:
    """Train a small network on the dataset, for use as a feature extractor: a classifier, if there are classes.

    Without classes, it learns to recognise a sample although parts of it are removed.
    Its accuracy is measured on held-out samples. Use it with bigtrain evaluate SNAPSHOT --extractor
    file:NAME.safetensors.
    """
    from bigtrain.core.errors import ConfigError
    from bigtrain.core.logging import progress_bars
    from bigtrain.evaluation.probes.file import SUFFIX, write_probe
    from bigtrain.evaluation.probes.training import ProbeSettings, train_probe
    from data_pipelines.files import sha256_of

    if out.suffix != SUFFIX:
        raise ConfigError(f"--out {out}: the file of a probe ends in {SUFFIX}, such as {out.with_suffix(SUFFIX)}")
    settings = settings_from(ProbeSettings, "probe train", **{name: context.params[name] for name in _OPTIONS})
    with progress_bars() as bars:
        task = bars.add_task("training the probe", total=settings.epochs, note="")
        network, about = train_probe(
            settings,
            _device(),
            lambda epoch, loss: bars.update(task, completed=epoch, note=f"epoch {epoch}, loss {loss:.3f}"),
        )
    write_probe(out, network, about)
    counts = max(about.measured_on, 1)
    error = 1.96 * (about.accuracy * (1 - about.accuracy) / counts) ** 0.5
    known = f"distinguishes {len(about.classes)} classes of" if about.classes else "trained without classes on"
    typer.echo(
        f"{out}: {known} '{about.field}'; accuracy {about.accuracy:.3f} ± {error:.3f} of "
        f"{about.measured_on} held-out samples, trained on {about.trained_on}; digest {sha256_of(out)[:12]}"
    )


def _device() -> "torch.device":
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")

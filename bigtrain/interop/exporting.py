"""A snapshot's network for use elsewhere: plain weights, a `torch.export` program, or ONNX."""

import contextlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bigtrain.generate.snapshot import load_snapshot
from bigtrain.interop.errors import InteropError
from bigtrain.interop.exported import Export, export_of
from data_pipelines.errors import first_line

Format = Literal["safetensors", "torch-export", "onnx"]

TOLERANCE = 1e-4
"""How far an exported program's images may be from the network's, of their scale."""


def export_snapshot(
    snapshot: Path, out: Path, format_: Format, *, truncation: float | None = None, output: str | None = None
) -> float:
    """Write a snapshot's network and compare what was written with it.

    The programs take any batch, and those of translators images of any height and width that the network takes.

    Args:
        snapshot: its folder.
        out: the file to write.
        format_: of the file.
        truncation: of a generator, built in; None for none.
        output: of translators, the output whose network is written; None for the first.

    Returns:
        The largest difference of the images, as a share of their scale.

    Raises:
        SnapshotError: missing or damaged.
        InteropError: a package is missing, or what was written computes something else.
    """
    export = export_of(load_snapshot(snapshot), snapshot, truncation=truncation, output=output)
    out.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        expected = [export.program(*inputs) for inputs in export.checks]
        try:
            run = FORMATS[format_](export, out)
            made = [run(*inputs) for inputs in export.checks]
            error = max(
                float((one - other).abs().max() / other.abs().max()) for one, other in zip(made, expected, strict=True)
            )
        except InteropError:
            raise
        except Exception as failure:  # the exporters fail in as many ways as there are operators
            out.unlink(missing_ok=True)
            reason = first_line(failure)
            raise InteropError(f"{snapshot}: this network cannot be written as {format_} ({reason})") from None
    if not error <= TOLERANCE:
        out.unlink()
        raise InteropError(
            f"{snapshot}: as {format_}, its images differ by {error:.1e} of their scale; nothing written"
        )
    return error


Run = Callable[..., Tensor]


def _safetensors(export: Export, out: Path) -> Run:
    save_file({name: value.contiguous() for name, value in export.network.state_dict().items()}, out)

    def run(*inputs: Tensor) -> Tensor:
        export.network.load_state_dict(load_file(out))
        image: Tensor = export.program(*inputs)
        return image

    return run


def _torch_export(export: Export, out: Path) -> Run:
    with _without_warnings():
        inputs = tuple(export.inputs.values())
        torch.export.save(torch.export.export(export.program, inputs, dynamic_shapes=export.sizes), out)
        run: Run = torch.export.load(out).module()
    return run


def _onnx(export: Export, out: Path) -> Run:
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise InteropError(f"--format onnx needs {', '.join(missing)}: pip install 'bigtrain[onnx]'")
    import onnxruntime  # type: ignore[import-untyped]

    with _without_warnings():
        exported = torch.onnx.export(
            export.program,
            tuple(export.inputs.values()),
            dynamo=True,
            dynamic_shapes=export.sizes,
            verbose=False,
            optimize=False,  # it takes a small epsilon for nothing, and leaves it out
            input_names=list(export.inputs),
            output_names=[export.output],
        )
        assert exported is not None
        exported.save(out)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: its notes on what it cannot fold say nothing to users
    session = onnxruntime.InferenceSession(out, options, providers=["CPUExecutionProvider"])
    taken = {entry.name for entry in session.get_inputs()}

    def run(*inputs: Tensor) -> Tensor:
        # An unconditional generator's program takes no label.
        named = zip(export.inputs, inputs, strict=True)
        feeds = {name: value.numpy() for name, value in named if name in taken}
        return torch.from_numpy(session.run(None, feeds)[0])

    return run


FORMATS: dict[Format, Callable[[Export, Path], Run]] = {
    "safetensors": _safetensors,
    "torch-export": _torch_export,
    "onnx": _onnx,
}
"""Each writes a program and returns what runs the written one."""


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep the exporters' notes on their own insides from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

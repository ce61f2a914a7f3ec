"""A snapshot's generator for use elsewhere: plain weights, a `torch.export` program, or ONNX."""

import contextlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.generate.snapshot import load_snapshot
from bigtrain.interop.errors import InteropError
from bigtrain.models import Generator
from data_pipelines.errors import first_line

Format = Literal["safetensors", "torch-export", "onnx"]

TOLERANCE = 1e-4
"""How far an exported program's images may be from the generator's, of their scale."""


class Program(nn.Module):
    """A generator as a function of tensors alone: (z [N, z_dim], class indices [N]) -> images [N, C, H, W].

    Args:
        generator: in evaluation mode; its noise is the constant one.
        truncation: built in.
    """

    def __init__(self, generator: Generator, truncation: float) -> None:
        super().__init__()
        self.generator, self.truncation = generator, truncation

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        """Generate images."""
        image: Tensor = self.generator(z, label, truncation=self.truncation)
        return image


def export_snapshot(snapshot: Path, out: Path, format_: Format, *, truncation: float = 1.0) -> float:
    """Write a snapshot's generator and compare what was written with it.

    The programs take any batch.

    Returns:
        The largest difference of the images, as a share of their scale.

    Raises:
        SnapshotError: missing or damaged.
        InteropError: a package is missing, or what was written computes something else.
    """
    program = Program(load_snapshot(snapshot).generator, truncation).eval()
    inputs, others = _inputs(program.generator, 2), _inputs(program.generator, 3)
    out.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        expected = program(*others)
        try:
            run = FORMATS[format_](program, inputs, out)
            error = float((run(*others) - expected).abs().max() / expected.abs().max())
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


Run = Callable[[Tensor, Tensor], Tensor]


def _safetensors(program: Program, inputs: tuple[Tensor, Tensor], out: Path) -> Run:
    save_file({name: value.contiguous() for name, value in program.generator.state_dict().items()}, out)

    def run(z: Tensor, label: Tensor) -> Tensor:
        program.generator.load_state_dict(load_file(out))
        image: Tensor = program(z, label)
        return image

    return run


def _torch_export(program: Program, inputs: tuple[Tensor, Tensor], out: Path) -> Run:
    with _without_warnings():
        torch.export.save(torch.export.export(program, inputs, dynamic_shapes=_any_batch()), out)
        run: Run = torch.export.load(out).module()
    return run


def _onnx(program: Program, inputs: tuple[Tensor, Tensor], out: Path) -> Run:
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise InteropError(f"--format onnx needs {', '.join(missing)}: pip install 'bigtrain[onnx]'")
    import onnxruntime  # type: ignore[import-untyped]

    with _without_warnings():
        exported = torch.onnx.export(
            program,
            inputs,
            dynamo=True,
            dynamic_shapes=_any_batch(),
            verbose=False,
            optimize=False,  # it takes a small epsilon for nothing, and leaves it out
            input_names=["z", "label"],
            output_names=["image"],
        )
        assert exported is not None
        exported.save(out)
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    taken = {entry.name for entry in session.get_inputs()}

    def run(z: Tensor, label: Tensor) -> Tensor:
        # An unconditional generator's program takes no label.
        feeds = {name: value.numpy() for name, value in (("z", z), ("label", label)) if name in taken}
        return torch.from_numpy(session.run(None, feeds)[0])

    return run


FORMATS: dict[Format, Callable[[Program, tuple[Tensor, Tensor], Path], Run]] = {
    "safetensors": _safetensors,
    "torch-export": _torch_export,
    "onnx": _onnx,
}
"""Each writes a program and returns what runs the written one."""


def _inputs(generator: Generator, count: int) -> tuple[Tensor, Tensor]:
    draws = Draws(0, torch.arange(count), "export")
    label = draws.of("label").integers(max(generator.image.classes, 1), 1).squeeze(1)
    return draws.of("z").normal(generator.z_dim), label


def _any_batch() -> dict[str, dict[int, object]]:
    batch = torch.export.Dim("batch")
    return {"z": {0: batch}, "label": {0: batch}}


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep the exporters' notes on their own insides from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

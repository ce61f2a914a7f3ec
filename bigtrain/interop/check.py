"""Are our networks the reference's? Compute all that a golden folder holds, and tell the worst error of each."""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from bigtrain.augment.ada import apply_named
from bigtrain.interop.errors import InteropError
from bigtrain.interop.golden import Golden, read_golden
from bigtrain.interop.peers import Rename
from bigtrain.interop.quantities import Quantities, quantities_of
from bigtrain.ops import reference_paths
from bigtrain.strategies import Precision

OperatorPath = Literal["fast", "reference"]

OUTPUT_TOLERANCE = 1e-4
"""Of an output's own scale, in float32."""

PENALTY_TOLERANCE = 1e-3
"""Relative, of penalties and gradient norms, in float32."""

_FLOOR = 1e-3
"""Of several numbers that are compared relatively, what is below this share of the largest is compared with that."""

_NOTHING_TO_COMPARE = frozenset({"peer", "config", "made_from", "float32_agreement"})
"""Keys of `config.json` that tell what the numbers belong to, where they are from and how exact they are."""


@dataclass(frozen=True)
class CheckResult:
    """How far one of the reference's numbers is from ours.

    Attributes:
        name: of the number, as in the folder.
        error: the worst; not finite where ours is not, or where the shapes differ.
        tolerance: what it may be in float32.
        where: the parameter that the worst error belongs to, or nothing.
    """

    name: str
    error: float
    tolerance: float
    where: str = ""

    @property
    def fits(self) -> bool:
        """Tell whether the error is tolerable."""
        return self.error <= self.tolerance

    def __str__(self) -> str:
        """Tell it in one line."""
        where = f" ({self.where})" if self.where else ""
        return f"{self.name}: error {self.error:.2e}, tolerance {self.tolerance:.0e}{where}"


def check(folder: Path, *, path: OperatorPath, precision: Precision, device: torch.device) -> list[CheckResult]:
    """Compare all that a golden folder holds with our own.

    Args:
        folder: see shared/golden/README.md.
        path: `reference` computes every operator by its definition.
        precision: `bf16` computes as a run with that precision does; the tolerances are not meant for it.
        device: where to compute.

    Raises:
        InteropError: the folder is damaged, or holds what is not understood.
    """
    golden = read_golden(folder)
    operators = reference_paths() if path == "reference" else contextlib.nullcontext()
    with _exact(device), operators, torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        try:
            if not golden.document:
                return list(_transforms(golden.io, device))
            return list(_results(golden, quantities_of(golden, device)))
        except InteropError as error:
            raise InteropError(f"{folder}: {error}") from None


def _transforms(io: Mapping[str, Tensor], device: torch.device) -> Iterator[CheckResult]:
    """Apply what `transform@parameter=value` names to `images`."""
    for name, expected in io.items():
        if name == "images":
            continue
        named = re.fullmatch(r"(\w+)@\w+=(-?[\d.e-]+)", name)
        if named is None:
            raise InteropError(f"io.safetensors: '{name}' is unknown")
        try:
            ours = apply_named(named[1], io["images"].to(device), float(named[2]))
        except ValueError as error:
            raise InteropError(f"io.safetensors: '{name}' is unknown: {error}") from None
        yield CheckResult(name, _scale_error(ours, expected), OUTPUT_TOLERANCE)


def _results(golden: Golden, quantities: Quantities) -> Iterator[CheckResult]:
    for name, expected in golden.io.items():
        if name in quantities.inputs:
            continue
        if (ours := quantities.penalty(name)) is not None:
            error, _ = _relative_error({name: ours}, {name: expected})
            yield CheckResult(name, error, PENALTY_TOLERANCE)
        elif (ours := quantities.output(name)) is not None:
            yield CheckResult(name, _scale_error(ours, expected), OUTPUT_TOLERANCE)
        else:
            raise InteropError(f"io.safetensors: '{name}' is unknown")
    for name, expected in golden.document.items():
        if name.startswith("grad_norm_"):
            yield _gradient_norms(name, expected, golden, quantities)
        elif name.startswith("loss_"):
            loss = _loss(name, name.removeprefix("loss_"), quantities)
            yield CheckResult(name, _scale_error(loss, torch.tensor(expected)), OUTPUT_TOLERANCE)
        elif name.startswith("params_"):
            network = quantities.network(name.removeprefix("params_"))
            yield CheckResult(name, abs(sum(parameter.numel() for parameter in network.parameters()) - expected), 0.0)
        elif name not in _NOTHING_TO_COMPARE:
            raise InteropError(f"config.json: '{name}' is unknown")


def _loss(key: str, name: str, quantities: Quantities) -> Tensor:
    loss = quantities.loss(name)
    if loss is None:
        raise InteropError(f"config.json: '{key}' is unknown")
    return loss


def _gradient_norms(name: str, expected: dict[str, float], golden: Golden, quantities: Quantities) -> CheckResult:
    of = name.removeprefix("grad_norm_")
    loss = _loss(name, of, quantities)
    part, network = quantities.network_of(of)
    rename = golden.renames[part]
    reference = {_renamed(rename, theirs, name): norm for theirs, norm in expected.items()}
    ours = _gradients(loss, network)
    strange = sorted(reference.keys() - ours.keys())
    if strange:
        raise InteropError(f"config.json: {name}: the network has no parameter '{strange[0]}'")
    # A parameter that the reference does not list took no part in the loss.
    wanted = {parameter: torch.tensor(reference.get(parameter, 0.0)) for parameter in ours}
    error, where = _relative_error(ours, wanted)
    return CheckResult(name, error, PENALTY_TOLERANCE, where)


def _renamed(rename: Rename, theirs: str, key: str) -> str:
    try:
        return rename(theirs) or theirs
    except KeyError:
        raise InteropError(f"config.json: {key}: the network has no parameter '{theirs}'") from None


def _gradients(loss: Tensor, network: nn.Module) -> dict[str, Tensor]:
    """Return the L2 norm of every parameter's gradient."""
    parameters = dict(network.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
    return {
        name: torch.zeros(()) if gradient is None else gradient.float().norm()
        for name, gradient in zip(parameters, gradients, strict=True)
    }


def _scale_error(ours: Tensor, expected: Tensor) -> float:
    """Return the largest error as a share of the largest expected value."""
    if ours.squeeze().shape != expected.squeeze().shape:
        return math.inf
    error = (ours.detach().cpu().float().reshape(expected.shape) - expected).abs().max()
    return _known(error / expected.abs().max().clamp(min=torch.finfo(torch.float32).tiny))


def _relative_error(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> tuple[float, str]:
    """Return the largest relative error, and whose it is."""
    largest = max(value.abs().max().item() for value in expected.values())
    worst = (0.0, "")
    for name, value in expected.items():
        if ours[name].shape != value.shape:
            return math.inf, name
        difference = (ours[name].detach().cpu().float() - value).abs()
        error = _known((difference / value.abs().clamp(min=max(_FLOOR * largest, 1e-30))).max())
        worst = max(worst, (error, name))
    return worst


def _known(error: Tensor) -> float:
    """Return the error; infinity for what is not a number, which would compare as it likes."""
    return error.item() if error.isfinite() else math.inf


@contextlib.contextmanager
def _exact(device: torch.device) -> Iterator[None]:
    """Keep a GPU from rounding float32 to TF32."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before

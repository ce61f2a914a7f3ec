"""Any network as an extractor: a Python file or a `torch.export` file that the user names.

A Python file is run: naming it is asking for that; a `torch.export` file is not (see `exported_program`). DINOv2 and
CLIP come this way, from their own packages and weights.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.extractors.base import FeatureDtype
from bigtrain.evaluation.extractors.exported_program import load_program
from data_pipelines.errors import first_line
from data_pipelines.files import sha256_of

_PROBE = 64
"""Side of the images that tell what the network makes."""


class FromFile(nn.Module):
    """A user's network; see Extractor.

    It maps uint8 images [N, 3, H, W] to features [N, F], or to a dict of such by layer; resizing and normalising are
    its own affair.

    Args:
        path: `.py` with a function `build()` that returns the network; `.pt2` of `torch.export`.

    Raises:
        EvaluationError: there is no such file, or what it makes are no features.
    """

    preprocessing = "the network's own"
    dtype: FeatureDtype = "fp32"

    def __init__(self, path: Path) -> None:
        super().__init__()
        if not path.is_file():
            raise EvaluationError(f"extractor file:{path}: no such file")
        self.name, self.short_name = f"file:{path.name}", path.stem
        self.weights_sha256 = sha256_of(path)
        self.network = _load(path)
        self.layers: Mapping[str, int] = {
            layer: features.shape[1] for layer, features in self._run(_probe(), path).items()
        }

    def forward(self, image: Tensor, layers: Sequence[str] = ("pool",)) -> dict[str, Tensor]:
        """See Extractor."""
        found = self._run(image.expand(-1, 3, -1, -1), self.name)
        return {layer: found[layer].float() for layer in layers}

    @torch.inference_mode()
    def _run(self, image: Tensor, name: str | Path) -> dict[str, Tensor]:
        out = self.network(image)
        found = out if isinstance(out, dict) else {"pool": out}
        for layer, features in found.items():
            if not isinstance(features, Tensor) or features.shape[:1] != image.shape[:1] or features.dim() != 2:
                shape = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
                raise EvaluationError(f"extractor {name}: layer '{layer}' is {shape}, expected features [N, F]")
        return found


def _probe() -> Tensor:
    return torch.zeros(2, 3, _PROBE, _PROBE, dtype=torch.uint8)


def _load(path: Path) -> nn.Module:
    """Return the network in evaluation mode."""
    try:
        if path.suffix == ".py":
            return _build(path).eval().requires_grad_(False)
        if path.suffix == ".pt2":
            return load_program(path)
    except (RuntimeError, OSError, SyntaxError, ImportError, ValueError) as error:
        raise EvaluationError(f"extractor file:{path}: cannot be loaded ({first_line(error)})") from None
    raise EvaluationError(f"extractor file:{path}: expected a .py, .pt2 or .safetensors (probe) file")


def _build(path: Path) -> nn.Module:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, "build", None)):
        raise EvaluationError(f"extractor file:{path}: has no function build() that returns the network")
    network = module.build()
    if not isinstance(network, nn.Module):
        raise EvaluationError(
            f"extractor file:{path}: build() returned a {type(network).__name__}, not a torch.nn.Module"
        )
    return network

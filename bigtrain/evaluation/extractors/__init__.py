"""Networks that turn images into features; a new one is a new file and one line in the table below."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch

from bigtrain.core.names import NameOf
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.extractors.base import Extractor, FeatureDtype, FeatureNetwork
from bigtrain.evaluation.extractors.efficientnet_lite0 import EfficientNetLite0Features
from bigtrain.evaluation.extractors.from_file import FromFile
from bigtrain.evaluation.extractors.inception_v3 import InceptionV3, InceptionV3LikePytorchFid
from bigtrain.evaluation.extractors.probe import Probe
from bigtrain.evaluation.extractors.values import Values
from bigtrain.evaluation.extractors.vgg16 import VGG16
from bigtrain.evaluation.probes.file import SUFFIX
from bigtrain.models.pretrained.weights import Weights, find_weights, has_weights
from data_pipelines.errors import first_line
from data_pipelines.plugins import Registry

_FILE = "file:"


def _efficientnet_lite0(weights: Path | None) -> EfficientNetLite0Features:
    if weights is not None:
        raise EvaluationError("efficientnet-lite0: its weights are installed with a package; give no weights")
    return EfficientNetLite0Features()


def _inception_v3(weights: Path | None, network: type[InceptionV3] = InceptionV3, published: str = "") -> InceptionV3:
    found = find_weights("inception-v3-compat", weights)
    with _naming(found):
        label = found.label(published or "inception", published=published)
        return network(found.load(), weights_sha256=found.sha256, short_name=label)


def _vgg16(weights: Path | None) -> VGG16:
    found = find_weights("vgg16", weights)
    with _naming(found):
        return VGG16(found.load(), weights_sha256=found.sha256, short_name=found.label("vgg16", published="vgg16"))


def _values(weights: Path | None) -> Values:
    if weights is not None:
        raise EvaluationError("values: this extractor has no network; give no weights")
    return Values()


@contextmanager
def _naming(weights: Weights) -> Iterator[None]:
    """Turn tensors that do not fit a network into one line."""
    try:
        yield
    except (KeyError, RuntimeError) as error:
        raise EvaluationError(f"{weights.path}: not the weights of this network ({first_line(error)})") from None


Build = Callable[[Path | None], FeatureNetwork]
"""Builds an extractor, on the CPU in float32, from the file or folder of its weights; None for where they usually are.

Raises:
    EvaluationError: the weights are missing or wrong.
"""


def _read(name: str, found: Any) -> tuple[str, Build] | None:
    return (name, found) if callable(found) else None


EXTRACTORS: Registry[Build] = Registry(
    "bigtrain.extractors", "a function from a path of weights, or None, to an extractor", _read
)
"""Every extractor by its name in a config, which other packages add to; none of ours downloads anything."""

EXTRACTORS.add(
    ("efficientnet-lite0", _efficientnet_lite0),
    ("inception-v3-compat", _inception_v3),
    ("inception-v3-pytorch-fid", lambda weights: _inception_v3(weights, InceptionV3LikePytorchFid, "pytorch_fid")),
    ("values", _values),
    ("vgg16", _vgg16),
)

_FIRST = "inception-v3-compat"
_PUBLISHED = {_FIRST: _FIRST, "inception-v3-pytorch-fid": _FIRST, "vgg16": "vgg16"}
"""Names of the published weights of our extractors, where they come with no package."""

AUTO = "auto"
"""`inception-v3-compat` where its weights are, else `efficientnet-lite0`; the names of scores tell which it was."""

_NAME = NameOf("extractor", lambda: (AUTO, *EXTRACTORS), prefix=_FILE)
ExtractorName = Annotated[str, _NAME]
"""A name in the table, `auto`, or `file:PATH` of a user's network or a probe."""


def check_extractor(name: str, weights: Path | None = None) -> None:
    """Find out whether the weights of an extractor of ours are there; those of other packages are found when built.

    Args:
        name: see `ExtractorName`.
        weights: their file, or its folder; None for where `find_weights` looks.

    Raises:
        WeightsError, EvaluationError: they are missing or wrong.
    """
    if name.startswith(_FILE):
        path = Path(name.removeprefix(_FILE)).expanduser()
        if not path.is_file():
            raise EvaluationError(f"extractor {name}: no such file")
    elif name in _PUBLISHED:
        find_weights(_PUBLISHED[name], weights)
    elif name == AUTO and has_weights(_PUBLISHED[_FIRST], weights):
        find_weights(_PUBLISHED[_FIRST], weights)


def runs_code(name: str) -> bool:
    """Tell whether building an extractor of this name runs a Python file that the name names."""
    return name.startswith(_FILE) and not name.endswith((".pt2", SUFFIX))


def build_extractor(name: str, dtype: FeatureDtype, device: torch.device, *, weights: Path | None = None) -> Extractor:
    """Build an extractor with its weights on `device`.

    Args:
        name: see `ExtractorName`.
        dtype: precision inside the network.
        device: where to.
        weights: their file, or its folder; None for where `find_weights` looks.

    Raises:
        EvaluationError: there is none of this name, or its weights are missing or wrong.
    """
    try:
        _NAME.check(name)
    except ValueError as error:
        raise EvaluationError(str(error)) from None
    if name.startswith(_FILE):
        if dtype != "fp32" or weights is not None:
            raise EvaluationError(f"{name}: a network from a file has its own weights and precision; give neither")
        path = Path(name.removeprefix(_FILE)).expanduser()
        return (Probe(path) if path.suffix == SUFFIX else FromFile(path)).to(device)
    if name == AUTO:
        # A file that is named must be the right one; a folder may hold the weights of other networks.
        known = has_weights(_PUBLISHED[_FIRST], weights)
        name, weights = (_FIRST, weights) if known else ("efficientnet-lite0", None)
    network = EXTRACTORS[name](weights)
    return network.to(device=device, dtype=torch.bfloat16 if dtype == "bf16" else torch.float32)

"""Where the weights of pretrained networks are, and whether they are the right ones. Nothing is downloaded here."""

import os
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch

from bigtrain.core.cache import cache_folder
from bigtrain.core.errors import UserError
from bigtrain.core.state import State
from data_pipelines.errors import first_line
from data_pipelines.files import sha256_of


class WeightsError(UserError):
    """Weights that are missing, or are not what they should be."""


SUMS = "SHA256SUMS"
"""A file in the format of `sha256sum`, by which a user vouches for other weights than the published ones."""


@dataclass(frozen=True)
class PublishedWeights:
    """Weights that published scores were computed with.

    Attributes:
        names: that the file goes by; the first is ours.
        sha256: of its content.
        urls: where it is published.
        megabytes: its size.
        licence: of the weights.
    """

    names: tuple[str, ...]
    sha256: str
    urls: tuple[str, ...]
    megabytes: float
    licence: str


WEIGHTS = {
    "inception-v3-compat": PublishedWeights(
        names=("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth"),
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        urls=(
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
            "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        ),
        megabytes=95.6,
        licence="Apache-2.0",
    ),
    "vgg16": PublishedWeights(
        names=("vgg16-397923af.pth",),
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        urls=("https://download.pytorch.org/models/vgg16-397923af.pth",),
        megabytes=553.4,
        licence="BSD-3-Clause",
    ),
    "lpips-vgg16": PublishedWeights(
        names=("weights-vgg16-lpips.pth", "vgg.pth"),
        sha256="a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
        urls=(
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-vgg16-lpips.pth",
            "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/vgg.pth",
        ),
        megabytes=0.007,
        licence="BSD-2-Clause",
    ),
}
"""Published weights by name; `bigtrain weights fetch NAME` gets them ahead of a run."""


@dataclass(frozen=True)
class Weights:
    """A file of weights that was found and checked.

    Attributes:
        path: of the file.
        sha256: of its content.
        published: whether they are the published ones.
    """

    path: Path
    sha256: str
    published: bool

    def label(self, network: str, *, published: str) -> str:
        """Return what names of scores tell of a network with these weights: `published`, or their first digits too."""
        return published if self.published else f"{network}-{self.sha256[:8]}"

    def load(self) -> State:
        """Read the tensors; nothing in the file is run.

        Raises:
            WeightsError: it is no file of tensors.
        """
        try:
            state: State = torch.load(self.path, weights_only=True, map_location="cpu")
        except (UnpicklingError, RuntimeError, EOFError, OSError) as error:
            raise WeightsError(f"{self.path}: not a file of tensors ({first_line(error)})") from None
        return state


def weights_folder() -> Path:
    """Return where fetched weights are kept."""
    return cache_folder() / "weights"


def has_weights(name: str, path: Path | None = None) -> bool:
    """Tell whether a file of these weights, right or wrong, is where `find_weights` looks."""
    return _find(name, path) is not None


def find_weights(name: str, path: Path | None = None) -> Weights:
    """Find weights and check their SHA-256.

    Args:
        name: in `WEIGHTS`.
        path: the file, or a folder that holds it; None for `$BIGTRAIN_WEIGHTS` (either too), then the cache.

    Raises:
        WeightsError: there is no such file, or its content is wrong.
    """
    found = _find(name, path)
    if found is not None:
        return _checked(found, WEIGHTS[name])
    places = " or ".join(map(str, _places(path)))
    raise WeightsError(
        f"the weights of {name} are not in {places}; download them where there is internet with "
        f"`bigtrain weights fetch {name}`, or give them with --weights, eval.weights or BIGTRAIN_WEIGHTS"
    )


def _places(path: Path | None) -> list[Path]:
    """Return the files and folders to look at, in order."""
    if path is not None:
        return [path]
    named = os.environ.get("BIGTRAIN_WEIGHTS")
    return [*([Path(named).expanduser()] if named else []), weights_folder()]


def _find(name: str, path: Path | None) -> Path | None:
    names = WEIGHTS[name].names
    for place in _places(path):
        if place.is_file() and (path is not None or place.name in names):
            return place
        for candidate in (place / file for file in names):
            if candidate.is_file():
                return candidate
    return None


def _checked(path: Path, published: PublishedWeights) -> Weights:
    found = sha256_of(path)
    if found == published.sha256:
        return Weights(path, found, published=True)
    if _vouched_for(path) == found:
        return Weights(path, found, published=False)
    raise WeightsError(
        f"{path}: has sha256 {found}, the published weights have {published.sha256}; if you mean to use "
        f"another file, list it with `sha256sum {path.name} >> {SUMS}` in {path.parent}, and its checksum becomes "
        f"part of the scores' names"
    )


def _vouched_for(path: Path) -> str | None:
    """Return the checksum that the file's neighbour `SHA256SUMS` names for it."""
    try:
        lines = (path.parent / SUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    sums = {name.strip().lstrip("*"): digest for digest, _, name in (line.partition(" ") for line in lines)}
    return sums.get(path.name)

"""Statistics of reference images that others have published, as `.npz` files."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from torch import Tensor

from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.statistics.moments import Moments
from data_pipelines.errors import first_line
from data_pipelines.files import sha256_of

_LARGEST = 2**31
"""Bytes of an array; features of 250,000 images take so many."""
_ASYMMETRY, _NEGATIVE = 1e-4, 1e-3
"""How far a covariance in float32 may be from symmetric, and its smallest eigenvalue below 0: shares of the largest."""


class StatisticsError(EvaluationError):
    """A file of statistics is missing, damaged, or holds something else."""


@dataclass(frozen=True)
class Published:
    """What a file of statistics holds.

    Attributes:
        path: the file.
        digest: SHA-256 of it, which stands for the reference in a protocol.
        layout: whose layout it has.
        moments: mean and covariance of pooled features; the count is 0 where the layout does not tell.
        spatial: likewise of spatial features, for sFID.
        features: one row an image, float32, shape [N, F].
        images: sample images that come along, uint8, shape [N, H, W, C]: how many and how large.
    """

    path: Path
    digest: str
    layout: str
    moments: Moments
    spatial: Moments | None = None
    features: Tensor | None = None
    images: tuple[int, ...] | None = None

    def moments_for(self, features: int, extractor: str, layer: str = "pool") -> Moments:
        """Return the moments of a layer, `pool` or `spatial`, for an extractor that makes so many features.

        Raises:
            StatisticsError: they are of another extractor, or there are none.
        """
        moments = self.spatial if layer == "spatial" else self.moments
        if moments is None:
            raise StatisticsError(f"{self.path}: contains no statistics of spatial features (mu_s, sigma_s)")
        if len(moments.mean) != features:
            raise StatisticsError(
                f"{self.path}: statistics of {len(moments.mean)} features, {extractor} makes {features}"
            )
        return moments


def holds_statistics(path: Path) -> bool:
    """Tell whether a `.npz` file is one of statistics, or cannot be read; others hold images."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return True  # whoever reads it tells what is wrong
    return {"mu", "sigma"} <= names or "feats" in names


def load_published(path: str | Path) -> Published:
    """Read statistics in one of the layouts that are in use.

    - `mu` and `sigma`: pytorch-fid, clean-fid (FID), torch-fidelity's numbers, TTUR.
    - `mu`, `sigma`, `mu_s`, `sigma_s`, often `arr_0` (images): guided-diffusion's reference batches; for FID and sFID.
    - `feats`: clean-fid (KID). Means and covariances are computed of it, as clean-fid does.

    Nothing in the file is executed.

    Raises:
        StatisticsError: missing, damaged, another layout, or numbers that are no mean and covariance.
    """
    path = Path(path)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, NpzFile):
                raise StatisticsError(f"{path}: contains a single array, expected a .npz archive of mu and sigma")
            names = set(archive.files)
            _check_sizes(path, archive)
            images = _shape(archive, "arr_0") if "arr_0" in names else None
            if {"mu", "sigma"} <= names:
                moments = _moments(path, archive, "mu", "sigma")
                spatial = _moments(path, archive, "mu_s", "sigma_s") if {"mu_s", "sigma_s"} <= names else None
                layout = "guided-diffusion" if spatial or images else "mu and sigma"
                return Published(path, sha256_of(path), layout, moments, spatial, images=images)
            if "feats" in names:
                features = torch.from_numpy(np.asarray(archive["feats"], np.float32))
                return Published(path, sha256_of(path), "clean-fid features", _of(path, features), features=features)
    except FileNotFoundError:
        raise StatisticsError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        if isinstance(error, StatisticsError):
            raise
        raise StatisticsError(f"{path}: not a readable .npz file ({first_line(error)})") from None
    if images is not None:
        raise StatisticsError(f"{path}: images without statistics; `bigtrain fid` compares with the images themselves")
    raise StatisticsError(f"{path}: contains {', '.join(sorted(names))}; expected mu and sigma, or feats")


def _check_sizes(path: Path, archive: NpzFile) -> None:
    """Refuse arrays that are unpacked to more than anybody's statistics take: the file may be a small bomb."""
    for member in archive.zip.infolist():  # type: ignore[union-attr]
        if member.filename != "arr_0.npy" and member.file_size > _LARGEST:
            raise StatisticsError(f"{path}: {member.filename} has {member.file_size} bytes, the limit is {_LARGEST}")


def _moments(path: Path, archive: NpzFile, mean_name: str, covariance_name: str) -> Moments:
    mean = np.asarray(archive[mean_name], np.float64)
    covariance = np.asarray(archive[covariance_name], np.float64)
    if mean.ndim == 2 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise StatisticsError(
            f"{path}: {mean_name} has shape {mean.shape}, {covariance_name} {covariance.shape}; expected (F,), (F, F)"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise StatisticsError(f"{path}: {mean_name} or {covariance_name} contains NaN or infinity")
    largest = np.abs(covariance).max()
    if np.abs(covariance - covariance.T).max() > _ASYMMETRY * largest:
        raise StatisticsError(f"{path}: {covariance_name} is not symmetric, so it is not a covariance")
    covariance = (covariance + covariance.T) / 2
    values = np.linalg.eigvalsh(covariance)
    if values[0] < -_NEGATIVE * max(values[-1], 0):
        raise StatisticsError(
            f"{path}: {covariance_name} has an eigenvalue of {values[0]:.3g}, so it is not a covariance"
        )
    return Moments(0, torch.from_numpy(mean), torch.from_numpy(covariance))


def _of(path: Path, features: Tensor) -> Moments:
    if features.ndim != 2 or len(features) < 2 or not features.isfinite().all():
        raise StatisticsError(f"{path}: feats has shape {tuple(features.shape)}; expected finite (N, F) with N > 1")
    wide = features.double()
    return Moments(len(wide), wide.mean(0), wide.t().cov())


def _shape(archive: NpzFile, name: str) -> tuple[int, ...]:
    """Return an array's shape, reading its header only: the images of a reference batch take gigabytes."""
    with archive.zip.open(f"{name}.npy") as file:  # type: ignore[union-attr]
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, _ = read(file)
    return tuple(shape)

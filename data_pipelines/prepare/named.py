"""Sets that are known by name and lie in files that people fetch themselves: FFHQ, CelebA, Debian's openclipart."""

from dataclasses import replace
from pathlib import Path

from data_pipelines.errors import DataError
from data_pipelines.prepare.files import from_files, images_of
from data_pipelines.prepare.place import Place
from data_pipelines.source import Source

OPENCLIPART = Path("/usr/share/openclipart/png")


def ffhq(path: Path) -> Source:
    """FFHQ (Karras et al. 2019): faces, unlabelled, from the folder or zip of its images or thumbnails."""
    licence = "CC BY-NC-SA 4.0 by NVIDIA; each image has its own, see ffhq-dataset-v2.json"
    return _unlabelled(path, "ffhq", licence)


def celeba(path: Path) -> Source:
    """CelebA (Liu et al. 2015): faces, unlabelled, from `img_align_celeba.zip` or the folder in it."""
    return _unlabelled(path, "celeba", "non-commercial research only, see the CelebA agreement")


def openclipart(path: Path = OPENCLIPART) -> Source:
    """Open Clip Art of Debian's package openclipart-png: drawings in 22 folders, the classes.

    Raises:
        DataError: the package is not installed.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; apt-get install openclipart-png")
    source = from_files(Place(path))
    own = [item for item in source.items if not (path / item.name).is_symlink()]  # links show an image a second time
    return replace(source, name="openclipart", items=own, licence="public domain", origin="Debian's openclipart-png")


def _unlabelled(path: Path, name: str, licence: str) -> Source:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    source = images_of(Place(path))
    items = [item._replace(label=-1) for item in source.items]
    return replace(source, name=name, items=items, classes=(), licence=licence)

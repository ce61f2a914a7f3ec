"""Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, arXiv 1708.07747): grey clothes, 28x28, ten classes, MIT licence.

The test split of 10,000 images lies in this package; the full 70,000 come from Debian's package where it is
installed, else from the official address.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_pipelines.codec import Pixels
from data_pipelines.errors import DataError
from data_pipelines.prepare.fetch import check_gzip, fetch_gzip
from data_pipelines.prepare.idx import read_idx
from data_pipelines.write import Source

CLASSES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
EMBEDDED = Path(__file__).parent.parent / "embedded" / "fashion_mnist"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
CACHE = Path("~/.cache/bigtrain/fashion-mnist")

CONTENT_SHA256 = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Of the decompressed files, which mirrors compress differently."""


def embedded(resolution: int) -> Source:
    """The 10,000 images in this package; nothing is fetched."""
    return _source("fashion-mnist-10k", EMBEDDED, ("t10k",), resolution, origin="embedded: the test split")


def full(resolution: int, *, debian: Path = DEBIAN, url: str = URL, cache: Path = CACHE) -> Source:
    """All 70,000 images, the training split first."""
    if all((debian / name).is_file() for name in CONTENT_SHA256):
        return _source("fashion-mnist", debian, ("train", "t10k"), resolution, origin=f"Debian package at {debian}")
    cache = cache.expanduser()
    for name, sha256 in CONTENT_SHA256.items():
        fetch_gzip(f"{url}/{name}", cache / name, sha256)
    return _source("fashion-mnist", cache, ("train", "t10k"), resolution, origin=url)


def _source(name: str, folder: Path, splits: tuple[str, ...], resolution: int, *, origin: str) -> Source:
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.uint8]] = []
    for split in splits:
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            file = f"{split}-{kind}-ubyte.gz"
            check_gzip(folder / file, CONTENT_SHA256[file])
            values.append(read_idx(folder / file))
    return Source(
        name=name,
        samples=_padded(np.concatenate(images), np.concatenate(labels), resolution),
        count=sum(len(values) for values in labels),
        classes=CLASSES,
        protocol=f"28x28 originals, zero-padded to {resolution}x{resolution}",
        licence="MIT (c) 2017 Zalando SE",
        origin=origin,
    )


def _padded(images: Pixels, labels: Pixels, resolution: int) -> Iterator[tuple[Pixels, int]]:
    before, odd = divmod(resolution - images.shape[1], 2)
    if before < 0:
        raise DataError(f"Fashion-MNIST's images are 28x28: they can be padded to 28 or more, not {resolution}")
    for image, label in zip(images, labels, strict=True):
        yield np.pad(image, (before, before + odd))[None], int(label)

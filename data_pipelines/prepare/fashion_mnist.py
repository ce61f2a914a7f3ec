"""Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, arXiv 1708.07747): grey clothes, 28x28, ten classes, MIT licence.

The test split of 10,000 images lies in this package; the full 70,000 come from Debian's package where it is
installed, else from the official address.
"""

from pathlib import Path

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.files import in_home
from data_pipelines.prepare.arrays import from_arrays
from data_pipelines.prepare.fetch import check_gzip, fetch_gzip
from data_pipelines.prepare.idx import read_idx
from data_pipelines.protocol import ImageProtocol
from data_pipelines.source import Source

CLASSES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
EMBEDDED = Path(__file__).parent.parent / "embedded" / "fashion_mnist"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
CACHE = Path("~/.cache/bigtrain/fashion-mnist")
PADDED = ImageProtocol(32, 32, 1, crop="pad")
"""28 pixels do not halve well."""

CONTENT_SHA256 = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Of the decompressed files, which mirrors compress differently."""
_SPLITS = {"train": ("train",), "test": ("t10k",), "all": ("train", "t10k")}


def embedded(split: str = "all") -> Source:
    """The 10,000 images in this package; nothing is fetched.

    Raises:
        DataError: the training split is asked for.
    """
    if split == "train":
        raise DataError("fashion-mnist-10k is the test split; the training images are in fashion-mnist")
    return _source("fashion-mnist-10k", EMBEDDED, ("t10k",), origin="embedded: the test split")


def full(split: str = "all", *, debian: Path = DEBIAN, url: str = URL, cache: Path = CACHE) -> Source:
    """All 70,000 images, the training split first, or one split of them."""
    if all((debian / name).is_file() for name in CONTENT_SHA256):
        return _source("fashion-mnist", debian, _SPLITS[split], origin=f"Debian package at {debian}")
    cache = in_home(cache)
    for name, sha256 in CONTENT_SHA256.items():
        fetch_gzip(f"{url}/{name}", cache / name, sha256)
    return _source("fashion-mnist", cache, _SPLITS[split], origin=url)


def _source(name: str, folder: Path, splits: tuple[str, ...], *, origin: str) -> Source:
    contents = []
    for kind in ("images-idx3", "labels-idx1"):
        files = [folder / f"{split}-{kind}-ubyte.gz" for split in splits]
        for file in files:
            check_gzip(file, CONTENT_SHA256[file.name])
        contents.append(np.concatenate([read_idx(file) for file in files]))
    images, labels = contents
    licence = "MIT (c) 2017 Zalando SE"
    return from_arrays(name, images[:, None], labels, classes=CLASSES, licence=licence, origin=origin, usual=PADDED)

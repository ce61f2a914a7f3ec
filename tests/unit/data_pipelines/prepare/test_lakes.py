"""Images in HDF5 files and LMDB databases."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.errors import DataError
from data_pipelines.prepare import open_source
from data_pipelines.protocol import ImageProtocol
from data_pipelines.read import ShardDataset
from data_pipelines.write import ShardOptions, write_shards

h5py = pytest.importorskip("h5py", reason="an environment of an older lock file")
lmdb = pytest.importorskip("lmdb", reason="an environment of an older lock file")

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def hdf5(path: Path, **arrays: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, chunks=(1, *array.shape[1:]), compression="gzip")
    return path


@pytest.mark.parametrize("last", [False, True])
def test_hdf5_as_biggan_writes_it(tmp_path: Path, last: bool) -> None:
    images = PIXELS.transpose(0, 2, 3, 1) if last else PIXELS
    source = open_source(str(hdf5(tmp_path / "I8.hdf5", imgs=images, labels=LABELS, more=LABELS)))
    assert source.left_aside.total == 1
    write_shards(source, tmp_path / "set", ShardOptions(codec="npy"), workers=2)
    dataset = ShardDataset(tmp_path / "set")
    found = dataset.read(list(dataset.locations()))
    np.testing.assert_array_equal(found["image"], PIXELS)
    np.testing.assert_array_equal(found["class"], LABELS)


def test_grey_hdf5_of_any_name(tmp_path: Path) -> None:
    source = open_source(str(hdf5(tmp_path / "grey.h5", pictures=PIXELS[:, 0])))
    np.testing.assert_array_equal(source.read(source.items[2].where), PIXELS[2, :1])
    assert source.classes == ()


def test_hdf5_shows_no_other_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(6 * 3 * 8 * 8))
    with h5py.File(tmp_path / "evil.h5", "w") as file:
        file.create_dataset("imgs", PIXELS.shape, np.uint8, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
        file["linked"] = h5py.ExternalLink(str(hdf5(tmp_path / "other.h5", imgs=PIXELS)), "imgs")
    with pytest.raises(DataError, match="no images in it.* found nothing"):
        open_source(str(tmp_path / "evil.h5"))


def test_what_is_no_hdf5_of_images_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected uint8.* found latents float32 \[6, 3, 8, 8\]"):
        open_source(str(hdf5(tmp_path / "a.h5", latents=PIXELS.astype(np.float32))))
    with pytest.raises(DataError, match="expected a label for each of 6 images"):
        open_source(str(hdf5(tmp_path / "b.h5", imgs=PIXELS, labels=LABELS[:3])))
    (tmp_path / "c.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:600])
    with pytest.raises(DataError, match="not a complete HDF5 file"):
        open_source(str(tmp_path / "c.h5"))


def test_lmdb_as_lsun_is(tmp_path: Path) -> None:
    folder = tmp_path / "bedroom_train_lmdb"
    with lmdb.open(str(folder), map_size=2**20) as database, database.begin(write=True) as transaction:
        for number, image in enumerate(PIXELS):
            file = io.BytesIO()
            Image.fromarray(image.transpose(1, 2, 0)).save(file, "WEBP", lossless=True)
            transaction.put(f"key{number}".encode(), file.getvalue())
        transaction.put(b"length", b"6")
    source = open_source(str(folder))
    assert (source.name, source.left_aside.total) == ("bedroom_train", 1)
    write_shards(source, tmp_path / "set", ShardOptions(ImageProtocol(8, 8), codec="npy"), workers=2)
    dataset = ShardDataset(tmp_path / "set")
    np.testing.assert_array_equal(dataset.read(list(dataset.locations()))["image"], PIXELS)
    (folder / "data.mdb").write_bytes(b"none" * 5000)
    with pytest.raises(DataError, match="not an LMDB database"):
        open_source(f"lmdb:{folder}")

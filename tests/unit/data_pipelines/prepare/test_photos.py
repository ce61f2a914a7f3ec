"""Photographs from packages of Debian: read without installing, cut into tiles, split by photograph."""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.errors import DataError
from data_pipelines.prepare.fetch import Archive
from data_pipelines.prepare.photos import Package, photos


def package(folder: Path, content: bytes | None = None) -> Package:
    """Write a package of six photographs of 512x512, each with a red of its own, a drawing and a note."""
    if content is None:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w:xz") as archive:
            for number, name in enumerate([*(f"photo{number}.jpg" for number in range(6)), "drawing.jpg", "note.txt"]):
                pixels = np.random.default_rng(number).integers(0, 2, (512, 512, 3), dtype=np.uint8) * 200
                pixels[:, :, 0] = 30 * number
                picture = io.BytesIO()
                Image.fromarray(pixels).resize((512, 512)).save(picture, "JPEG", quality=95, subsampling=0)
                entry = tarfile.TarInfo(f"./usr/share/backgrounds/{name}")
                entry.size = picture.tell()
                archive.addfile(entry, io.BytesIO(picture.getvalue()))
        members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data.getvalue()}
        content = b"!<arch>\n"
        for name, member in members.items():
            content += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(member):<10}`\n".encode() + member
            content += b"\n" * (len(member) % 2)
    (folder / "pictures.deb").write_bytes(content)
    pinned = Archive("http://localhost/pictures.deb", hashlib.sha256(content).hexdigest())
    found = Package(pinned, "usr/share/backgrounds")
    return found._replace(others=("drawing.jpg",))


def test_tiles_of_whole_photographs_are_train_or_test(tmp_path: Path) -> None:
    packages = [package(tmp_path)]
    reds = {}
    for split in ("train", "test", "all"):
        source = photos(split, packages=packages, cache=tmp_path)
        tiles = np.stack([source.reader.read(item.where) for item in source.items])
        assert tiles.shape[1:] == (3, 128, 128)
        reds[split] = {round(float(tile[0].mean()) / 30) for tile in tiles}
        assert len(tiles) == 4 * len(reds[split])  # 256 pixels after halving: four tiles each
    assert reds == {"train": {1, 2, 3, 4}, "test": {0, 5}, "all": {0, 1, 2, 3, 4, 5}}


def test_what_is_no_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pictures\.deb: cannot be read as a Debian package"):
        photos(packages=[package(tmp_path, b"!<arch>\nnothing")], cache=tmp_path)

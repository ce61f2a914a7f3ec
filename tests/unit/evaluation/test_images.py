"""Images from files, and what is wrong with some."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.errors import EvaluationError, ImagesError
from bigtrain.evaluation.extraction import extract
from bigtrain.evaluation.image_pairs import psnr, score_pairs, ssim
from bigtrain.evaluation.images.files import FileImages
from bigtrain.evaluation.images.generated import GeneratedImages
from bigtrain.evaluation.images.in_memory import MemoryImages
from bigtrain.evaluation.images.shards import ShardImages
from bigtrain.evaluation.metrics import METRICS
from data_pipelines.errors import DataError
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.prepare.arrays import from_fields
from data_pipelines.protocol import ImageProtocol
from data_pipelines.read import ShardDataset
from data_pipelines.write import write_shards

CPU = torch.device("cpu")
ALL = torch.arange


class MeanColour:
    """The smallest extractor."""

    name, short_name, preprocessing, dtype, weights_sha256 = "mean", "mean", "none", "fp32", "0"
    layers = {"pool": 3}  # noqa: RUF012

    def __call__(self, image: torch.Tensor, layers: object = ()) -> dict[str, torch.Tensor]:
        return {"pool": image.float().mean((2, 3))}


def score(images: object) -> object:
    return extract(images, [METRICS["fid"].need], MeanColour(), Ranks(0, 1, 0, CPU), batch=4)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for number in range(9):
        Image.fromarray(random.integers(0, 256, (12, 10, 3), np.uint8)).save(tmp_path / f"{number}.png")
    return tmp_path


def test_files_are_read_as_pillow_reads_them_from_a_folder_or_a_zip(folder: Path, alone: None) -> None:
    Image.open(folder / "1.png").convert("L").save(folder / "1.png")
    Image.open(folder / "2.png").save(folder / "2.jpg")
    (folder / "2.png").unlink()
    see_through = Image.new("RGBA", (10, 12), (200, 0, 0, 0))
    see_through.save(folder / "3.png")
    with zipfile.ZipFile(folder.parent / "all.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    for place in (folder, folder.parent / "all.zip"):
        images = FileImages(place)
        found, label = images.read(ALL(len(images)))
        assert images.faults == []
        assert images.grey == ["1.png"]
        assert label.tolist() == [-1] * 9
        for number, name in enumerate(["0.png", "1.png", "2.jpg"]):
            expected = np.asarray(Image.open(folder / name).convert("RGB"))
            assert np.abs(found[number].permute(1, 2, 0).numpy().astype(int) - expected).max() <= (name == "2.jpg")
        assert (found[3] == 255).all(), "transparency lies on white"
    assert score(FileImages(folder))


def test_files_are_read_as_they_are_prepared(tmp_path: Path) -> None:
    """Whatever a picture's mode is, `fid` scores what `data prepare` writes."""
    random = np.random.default_rng(0)
    grey = random.integers(0, 256, (6, 8), np.uint8)
    colour = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    Image.fromarray(grey.astype(np.uint16) * 8).save(tmp_path / "twelve.png")
    Image.fromarray(grey).save(tmp_path / "eight.png")
    colour.quantize(7).save(tmp_path / "palette.png")
    colour.convert("CMYK").save(tmp_path / "cmyk.jpg")
    colour.save(tmp_path / "profile.png", icc_profile=b"a profile")
    Image.fromarray(random.integers(0, 256, (6, 8, 4), np.uint8)).save(tmp_path / "alpha.webp", lossless=True)
    colour.rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=turned)
    colour.rotate(90, expand=True).save(tmp_path / "turned.png", exif=turned)
    images = FileImages(tmp_path)
    found, _ = images.read(ALL(len(images)))
    assert images.faults == []
    protocol = ImageProtocol(6, 8, crop="exact")
    for number, name in enumerate(sorted(path.name for path in tmp_path.iterdir())):
        assert (found[number].numpy() == protocol.apply((tmp_path / name).read_bytes())).all(), name
    read = dict(zip(sorted(path.stem for path in tmp_path.iterdir()), found, strict=True))
    assert torch.equal(read["sixteen"], read["eight"])
    assert images.dark == ["twelve.png"]
    assert sorted(images.grey) == ["eight.png", "sixteen.png", "twelve.png"]


def test_unreadable_images_are_counted_and_named(folder: Path, alone: None) -> None:
    (folder / "4.png").write_bytes(b"nothing")
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes()[:200])
    Image.new("RGB", (8, 8)).save(folder / "6.png")
    with pytest.raises(ImagesError) as caught:
        score(FileImages(folder))
    message = str(caught.value)
    assert message.startswith(f"{folder}: 3 of 9 images cannot be scored: 4.png (not an image), 5.png (")
    assert "6.png (is 8x8, the first image is 12x10)" in message


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no images in it"):
        FileImages(tmp_path)
    (tmp_path / "0.png").write_bytes(b"nothing")
    with pytest.raises(EvaluationError, match="none of its 1 images can be read"):
        FileImages(tmp_path)


def test_generated_images_with_nan_are_refused(alone: None) -> None:
    def generate(draws: object) -> tuple[torch.Tensor, torch.Tensor]:
        image = torch.zeros(len(draws), 3, 4, 4)  # type: ignore[arg-type]
        image[draws.index == 5] = torch.nan  # type: ignore[attr-defined]
        return image, torch.full((len(image),), -1)

    with pytest.raises(ImagesError, match="the generator: 1 of 7 images cannot be scored: image 5 \\(NaN"):
        score(GeneratedImages(generate, 7, seed=0, device=CPU))


@pytest.mark.parametrize("rank", [0, 3])
def test_pairs_may_be_fewer_than_ranks_and_are_all_read(folder: Path, alone: None, rank: int) -> None:
    two = MemoryImages(torch.zeros(2, 3, 12, 12, dtype=torch.uint8), "two")
    assert list(score_pairs(("psnr",), two, two, Ranks(rank, 4, 0, CPU), distances={}, batch=4)) == ["psnr"]
    (folder / "4.png").write_bytes(b"nothing")
    with pytest.raises(ImagesError, match="1 of 9 images cannot be scored: 4.png"):
        score_pairs(("psnr",), FileImages(folder), FileImages(folder), Ranks(0, 1, 0, CPU), distances={}, batch=4)
    tiny = MemoryImages(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "tiny")
    with pytest.raises(EvaluationError, match="ssim needs images of 11 pixels or more a side"):
        score_pairs(("ssim",), tiny, tiny, Ranks(0, 1, 0, CPU), distances={}, batch=4)


def test_psnr_and_ssim_equal_a_slow_loop() -> None:
    random = torch.Generator().manual_seed(0)
    one = torch.randint(0, 256, (2, 3, 16, 14), generator=random, dtype=torch.uint8)
    other = (one.float() * 0.8 + torch.randint(0, 40, one.shape, generator=random)).to(torch.uint8)
    error = (one.double() - other.double()).square().mean((1, 2, 3))
    torch.testing.assert_close(psnr(one, other), 20 * torch.log10(255 / error.sqrt()))
    assert psnr(one, one).tolist() == pytest.approx([58.92] * len(one), abs=0.01)
    assert ssim(one, one).tolist() == pytest.approx([1, 1])
    place = np.arange(11) - 5
    weight = np.exp(-(place[:, None] ** 2 + place[None] ** 2) / (2 * 1.5**2))
    weight /= weight.sum()
    values = []
    for x, y in zip(one.double().numpy().reshape(6, 16, 14), other.double().numpy().reshape(6, 16, 14), strict=True):
        for top in range(6):
            for left in range(4):
                a, b = (side[top : top + 11, left : left + 11] for side in (x, y))
                ma, mb = (weight * a).sum(), (weight * b).sum()
                va, vb = (weight * (a - ma) ** 2).sum(), (weight * (b - mb) ** 2).sum()
                vab = (weight * (a - ma) * (b - mb)).sum()
                c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
                values.append((2 * ma * mb + c1) * (2 * vab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    assert float(ssim(one, other).mean()) == pytest.approx(np.mean(values), rel=1e-9)


def test_any_field_of_shards_is_a_set_of_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
    spec = FieldSpec("image", (3, 8, 8), "uint8", codec="png")
    pairs = {"input": images, "target": 255 - images}
    write_shards(from_fields("pairs", pairs, dict.fromkeys(pairs, spec)), tmp_path / "set")
    inputs, targets = (ShardImages(ShardDataset(tmp_path / "set"), field=name) for name in pairs)
    read, labels = inputs.read(torch.arange(6))
    assert torch.equal(targets.read(torch.arange(6))[0], 255 - read)
    assert sorted(image.numpy().tobytes() for image in read) == sorted(image.tobytes() for image in images)
    assert labels.tolist() == [-1] * 6
    assert inputs.digest != targets.digest
    with pytest.raises(DataError, match="has no field 'image'; its fields are input, target"):
        ShardImages(ShardDataset(tmp_path / "set"))

"""`bigtrain fid`, `ppl` and `evaluate` as a user calls them: every kind of place, and every mistake in one line."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import vgg16

from bigtrain.cli import main
from bigtrain.core.logging import console
from bigtrain.models import ImageSpec
from bigtrain.models.biggan import BigGANGeneratorConfig
from bigtrain.models.pretrained.weights import WEIGHTS
from bigtrain.models.stylegan2 import StyleGAN2GeneratorConfig
from data_pipelines.write import ShardOptions, write_shards
from tests.conftest import tiny_source
from tests.inception import vouch
from tests.snapshots import save_generator

PIXELS = """
import torch

class Pixels(torch.nn.Module):
    def forward(self, image):
        return torch.nn.functional.adaptive_avg_pool2d(image.float() / 255, 2).flatten(1)

build = Pixels
"""
"""An extractor of 12 features that costs nothing."""

BIGGAN = BigGANGeneratorConfig(z_dim=16, width=16, multiples=(2, 1, 1))
STYLE = StyleGAN2GeneratorConfig(z_dim=8, w_dim=8, mapping_layers=2, channel_base=256)


def write_images(folder: Path, count: int, seed: int, mode: str = "RGB") -> None:
    folder.mkdir()
    for number, pixels in enumerate(np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), np.uint8)):
        Image.fromarray(pixels).convert(mode).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of everything that can be compared, and of much that cannot."""
    root = tmp_path_factory.mktemp("places")
    (root / "pixels.py").write_text(PIXELS)
    for name, count, seed in (("a", 12, 1), ("b", 12, 2), ("one", 1, 3), ("mixed", 6, 4), ("damaged", 5, 5)):
        write_images(root / name, count, seed)
    write_images(root / "grey", 4, 6, mode="L")
    (root / "empty").mkdir()
    Image.new("RGB", (9, 8)).save(root / "mixed" / "3.png")
    for number in (0, 2):
        (root / "damaged" / f"{number}.png").write_bytes(b"nothing")
    with zipfile.ZipFile(root / "b.zip", "w") as archive:
        for file in (root / "b").iterdir():
            archive.write(file, file.name)
    (root / "torn.zip").write_bytes((root / "b.zip").read_bytes()[:-30])
    write_shards(tiny_source(30, size=16, channels=3), root / "shards", ShardOptions(shard_samples=8))
    torch.manual_seed(0)
    for name, config, classes in (("biggan", BIGGAN, 3), ("style", STYLE, 0), ("nan", BIGGAN, 3)):
        generator = config.build(ImageSpec(16, 3, classes))
        if name == "nan":
            next(generator.parameters()).data.fill_(torch.nan)
        names = [f"class {number}" for number in range(classes)]
        save_generator(root / name, generator, config, class_names=names, facts={"samples_seen": 0})
    rows = np.random.default_rng(0).random((60, 12)).astype(np.float32)
    mu, sigma = rows.mean(0), np.cov(rows, rowvar=False)
    np.savez(root / "pytorch-fid.npz", mu=mu, sigma=sigma)
    np.savez(root / "clean-fid.npz", feats=rows)
    pictures = np.zeros((4, 8, 8, 3), np.uint8)
    np.savez(root / "guided-diffusion.npz", arr_0=pictures, mu=mu, sigma=sigma, mu_s=mu[:3], sigma_s=sigma[:3, :3])
    np.savez(root / "feats.npz", features=rows)
    stacked = np.stack([np.asarray(Image.open(root / "b" / f"{number}.png")) for number in sorted(map(str, range(12)))])
    np.savez(root / "pictures.npz", arr_0=stacked, arr_1=np.arange(12) % 3)
    np.save(root / "pictures.npy", stacked.transpose(0, 3, 1, 2))
    return root


@pytest.fixture
def bigtrain(places: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Call the command in the folder of places; return its exit code, and what it printed."""

    def call(line: str) -> tuple[int, str, str]:
        monkeypatch.chdir(places)
        monkeypatch.setattr(sys, "argv", ["bigtrain", *line.split()])
        monkeypatch.setattr(console, "stderr", False)
        monkeypatch.setattr(console, "width", 200)
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code or 0, *capfd.readouterr())

    return call


def scores(answer: tuple[int, str, str]) -> dict[str, Any]:
    code, out, err = answer
    assert code == 0, err
    document = json.loads(out)
    found: dict[str, Any] = document.get("scores", document)
    assert all(len(score["protocol"]["stamp"]) == 12 for score in found.values())
    return found


def test_every_kind_of_place_is_compared(bigtrain: Any) -> None:
    statistics = ("pytorch-fid.npz", "clean-fid.npz", "guided-diffusion.npz")
    values = {
        place: scores(bigtrain(f"fid a {place} --extractor file:pixels.py --json"))["fid_pixels"]
        for place in ("b", "b.zip", "shards", "pictures.npz", "pictures.npy", *statistics)
    }
    assert values["b"]["value"] == values["b.zip"]["value"] > 0
    assert values["b"]["noise"]["low"] < values["b"]["value"] < values["b"]["noise"]["high"]
    assert values["pictures.npz"]["value"] == values["pictures.npy"]["value"] == pytest.approx(values["b"]["value"])
    published = [values[place]["value"] for place in statistics]
    assert published == pytest.approx([published[0]] * 3, rel=1e-5)
    made = scores(bigtrain("fid biggan shards --samples 40 --extractor file:pixels.py --metric class_fid --json"))
    assert list(made) == [f"class_fid_class {number}_pixels" for number in range(3)]
    same = scores(bigtrain("fid pytorch-fid.npz guided-diffusion.npz --extractor file:pixels.py --json"))
    assert same["fid_pixels"]["value"] == pytest.approx(0, abs=1e-6)
    few = scores(bigtrain("fid a b --metric kid --kid-subset-size 8 --extractor file:pixels.py --json"))["kid_pixels"]
    assert few["protocol"]["metric"] == "kid (100 subsets of 8)"
    pairs = scores(bigtrain("fid a b --metric psnr --metric ssim --json"))
    assert pairs["psnr"]["higher_is_better"]
    assert 5 < pairs["psnr"]["value"] < 12


def test_scores_of_one_protocol_are_compared_and_others_refused(bigtrain: Any, places: Path) -> None:
    for name, line in {
        "a": "fid a shards --extractor file:pixels.py --json",
        "b": "fid b shards --extractor file:pixels.py --json",
        "other": "fid a b --extractor file:pixels.py --json",
        "whole": "evaluate biggan --data shards --samples 20 --extractor file:pixels.py --json",
        "changed": "evaluate biggan --data shards --samples 20 --extractor file:pixels.py --truncation 0.7 "
        "--precision bf16 --seeds 2 --json",
        "published": "evaluate style --data shards --samples 20 --extractor file:pixels.py "
        "--reference pytorch-fid.npz --json",
    }.items():
        code, out, err = bigtrain(line)
        assert code == 0, err
        (places / f"{name}.json").write_text(out)
    code, out, _ = bigtrain("evaluate --compare a.json b.json")
    assert code == 0
    assert "within the noise" in out
    for one, other, differs in (
        ("a", "other", ["reference: files ", "reference_samples: 30 and 12"]),
        ("whole", "changed", ["truncation: 1.0 and 0.7", "generator_precision: fp32 and bf16", "seeds: 1 and 2"]),
        ("whole", "published", ["reference_samples: 30 and None"]),
    ):
        code, _, err = bigtrain(f"evaluate --compare {one}.json {other}.json")
        assert code == 2
        assert "these scores cannot be compared: " in err
        assert all(part in err or part.startswith("reference: files") for part in differs)


MISTAKES = {
    "fid one b": "fid needs 2 images, but one has 1",
    "fid empty b": "empty: no images in it",
    "fid mixed b": "mixed: 1 of 6 images cannot be scored: 3.png (is 8x9, the first image is 16x16)",
    "fid damaged b": "damaged: 2 of 5 images cannot be scored: 0.png (not an image), 2.png (not an image)",
    "fid nan b --samples 3": "nan: 3 of 3 images cannot be scored: image 0 (NaN or infinity in it), ",
    "fid torn.zip b": "torn.zip: not a complete zip",
    "fid a feats.npz": "feats.npz: no images in it",
    "fid a nowhere": "nowhere: no such file or folder",
    "fid a pixels.py": "pixels.py: not recognised as a source of samples",
    "fid a b --metric fie": "fid: 'metrics.0': unknown metric 'fie' (did you mean 'fid'?)",
    "fid a b --metric kid": "kid needs 1000 images, but a has 12; take smaller subsets: --kid-subset-size N",
    "fid a b --metric kid --kid-subset-size 1": "fid: 'kid_subset_size': input should be greater than or equal to 2",
    "fid a clean-fid.npz --metric inception_score": "inception_score needs the layer 'logits'",
    "fid a b --extractor inception": "unknown extractor 'inception' (did you mean 'inception-v3-compat'?)",
    "fid a b --extractor inception-v3-compat": "the weights of inception-v3-compat are not in ",
    "fid a b --extractor auto --weights pixels.py": "pixels.py: has sha256 ",
    "fid a pytorch-fid.npz --extractor auto": "pytorch-fid.npz: statistics of 12 features, efficientnet-lite0 makes",
    "fid a b --dtype fp16": "fid: 'dtype': input should be 'fp32' or 'bf16', got 'fp16'",
    "fid a one --metric psnr": "a has 12 images, one has 1: they cannot be paired",
    "fid a b --metric lpips": "the weights of vgg16 are not in ",
    "evaluate biggan": "biggan: is not in a run folder; give the dataset to compare with: --data DIR",
    "evaluate biggan --data shards --samples 5 --metric kid": "kid needs 1000 images, but the generator has 5",
    "evaluate biggan --data shards --ema 0.05": "biggan: no average of width 0.05; it has none (see ema.profiles)",
    "evaluate biggan --data shards --precision fp16": "evaluate: 'precision': input should be 'fp32' or 'bf16'",
    "evaluate nan --data shards --samples 3": "the generator: 3 of 3 images cannot be scored: image 0 (NaN",
    "evaluate --compare biggan style": "biggan: contains no scores with their protocols",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line(bigtrain: Any, line: str) -> None:
    extractor = "" if "--extractor" in line or "--compare" in line else " --extractor file:pixels.py"
    code, out, err = bigtrain(line + extractor)
    assert (code, out) == (2, "")
    assert err.startswith(f"bigtrain: {MISTAKES[line]}")
    assert err.count("\n") == 1


def test_grey_images_become_colour_and_are_counted(bigtrain: Any, places: Path) -> None:
    told = "grey: 4 grey images among those of rank 0 became RGB, the first: 0.png"
    code, out, _ = bigtrain("fid grey b --extractor file:pixels.py")
    assert (code, told in out) == (0, True)
    write_images(places / "greyer", 4, 7, mode="L")
    answer = bigtrain("fid greyer b --extractor file:pixels.py --json")
    assert scores(answer), "the log is not mixed up with the answer"
    assert told.replace("grey:", "greyer:") in answer[2]


def test_pairs_of_other_names_are_told(bigtrain: Any, places: Path) -> None:
    """Files without zeros in front are paired with files that have them in another order than that of the numbers."""
    (places / "padded").mkdir()
    for file in (places / "a").iterdir():
        (places / "padded" / f"{file.stem:0>2}.png").write_bytes(file.read_bytes())
    code, out, _ = bigtrain("fid a padded --metric psnr")
    assert (code, "12 of the pairs have different names, the first: 0 with 00; files are paired" in out) == (0, True)
    assert "different names" not in bigtrain("fid a b --metric psnr")[1]


def test_two_ranks_say_what_one_does(bigtrain: Any, places: Path) -> None:
    line = "fid a b --extractor file:pixels.py --metric fid --metric precision_recall --json"
    one = scores(bigtrain(line))
    command = [str(Path(sys.executable).parent / "bigtrain"), *line.split(), "--batch", "5", "--nproc", "2"]
    done = subprocess.run(command, cwd=places, capture_output=True, text=True)
    two = scores((done.returncode, done.stdout, done.stderr))
    for name, score in two.items():
        assert score["value"] == pytest.approx(one[name]["value"], rel=1e-8)
        assert score["protocol"] == one[name]["protocol"]


def test_path_lengths_and_lpips_carry_their_protocol(bigtrain: Any, tmp_path: Path) -> None:
    network = {f"features.{name}": value for name, value in vgg16().features.state_dict().items()}
    heads = {f"lin{part}.model.1.weight": torch.rand(1, n, 1, 1) for part, n in enumerate((64, 128, 256, 512, 512))}
    vouch(tmp_path / WEIGHTS["vgg16"].names[0], network)
    vouch(tmp_path / WEIGHTS["lpips-vgg16"].names[0], heads)
    line = f"ppl style --samples 6 --metric ppl_wend --metric lpips_diversity --weights {tmp_path} --json"
    length, diversity = scores(bigtrain(line)).values()
    assert length["protocol"]["metric"] == "ppl_wend (epsilon 0.0001, percentiles 1 to 99, at most 256 pixels)"
    assert length["protocol"]["extractor"] == "lpips-vgg16"
    assert diversity["higher_is_better"]
    pairs = scores(bigtrain(f"fid a b --metric lpips --metric perceptual --weights {tmp_path} --json"))
    assert not pairs["perceptual_efflite0"]["higher_is_better"]
    assert all(score["value"] > 0 for score in (length, diversity, *pairs.values()))
    code, _, err = bigtrain(f"ppl biggan --samples 2 --metric ppl_wend --weights {tmp_path}")
    assert (code, err) == (
        2,
        "bigtrain: path length in w needs a style-based generator; in z, any generator is possible\n",
    )

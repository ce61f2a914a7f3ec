"""`bigtrain fid` beside the programs pytorch-fid and torch-fidelity: the same folders, the same file of weights."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.inception import write_weights

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
BIN = Path(sys.executable).parent
IMAGES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of images that differ in brightness and detail, and weights where pytorch-fid looks for a download.

    They differ much, for a reason: of 40 images only 39 of 2,048 eigenvalues are not 0, and the other programs add the
    roots of how the rest is rounded. Beside a large distance that is nothing.
    """
    root = tmp_path_factory.mktemp("programs")
    for side, lowest, highest, detail in (("a", 0, 200, 6), ("b", 60, 256, 9)):
        random = np.random.default_rng(detail)
        (root / side).mkdir()
        for number in range(IMAGES):
            coarse = Image.fromarray(random.integers(lowest, highest, (detail, detail, 3), np.uint8))
            coarse.resize((48, 48), Image.Resampling.BICUBIC).save(root / side / f"{number:02}.png")
    weights = write_weights(root)
    downloads = root / "hub" / "checkpoints"
    downloads.mkdir(parents=True)
    shutil.copy(weights, downloads / "pt_inception-2015-12-05-6726825d.pth")
    return root


def answer(folder: Path, *command: str) -> str:
    environment = {**os.environ, "TORCH_HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def bigtrain_fid(folder: Path, extractor: str) -> float:
    weights = str(next(folder.glob("weights-inception*.pth")))
    command = [str(BIN / "bigtrain"), "fid", "a", "b", "--extractor", extractor, "--weights", weights, "--json"]
    (score,) = json.loads(answer(folder, *command))["scores"].values()
    return float(score["value"])


def test_pytorch_fids_score(folder: Path) -> None:
    told = answer(folder, sys.executable, "-m", "pytorch_fid", "a", "b", "--device", "cpu", "--num-workers", "0")
    expected = float(told.split("FID:")[1])
    assert bigtrain_fid(folder, "inception-v3-pytorch-fid") == pytest.approx(expected, rel=1e-6)


def test_torch_fidelitys_score(folder: Path) -> None:
    weights = str(next(folder.glob("weights-inception*.pth")))
    command = [str(BIN / "fidelity"), "--cpu", "--fid", "--input1", "a", "--input2", "b", "--json", "--silent"]
    told = answer(folder, *command, "--no-cache", "--feature-extractor-weights-path", weights)
    expected = json.loads(told)["frechet_inception_distance"]
    assert bigtrain_fid(folder, "inception-v3-compat") == pytest.approx(expected, rel=1e-6)

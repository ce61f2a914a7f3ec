"""Our networks equal the reference implementations: all that each golden folder holds, on both paths."""

import pytest
import torch

from bigtrain.interop.check import check
from tests.numerics import golden

FOLDERS = [
    "ada-transforms",
    "biggan-res32",
    "biggan-res64-hier-attn",
    "biggan-deep-res32",
    "cyclegan-resnet64",
    "esrgan-x4",
    "hifigan-v1",
    "hifigan-v3",
    "pix2pix-unet64-batch",
    "pix2pix-unet64-instance",
    "r3gan-res32-cond",
    "srgan-x2",
    "stylegan2-res32-cond",
    "stylegan2-res64-orig",
    "stylegan3-r-res32",
    "stylegan3-t-res32",
]


@pytest.mark.parametrize("path", ["fast", "reference"])
@pytest.mark.parametrize("name", FOLDERS)
def test_equals_the_reference(name: str, path) -> None:
    findings = check(golden.folder(name), path=path, precision="fp32", device=torch.device("cpu"))
    assert findings
    assert [str(finding) for finding in findings if not finding.fits] == []


@pytest.mark.parametrize("name", [name for name in FOLDERS if name != "ada-transforms"])
def test_bf16_stays_near(name: str) -> None:
    findings = check(golden.folder(name), path="fast", precision="bf16", device=torch.device("cpu"))
    images = [finding.error for finding in findings if finding.name.startswith(("img", "fake_", "audio_fake"))]
    assert images
    assert 1e-4 < max(images) < 0.2

"""Every transform of adaptive augmentation equals the reference implementation's, on both paths."""

import contextlib
from pathlib import Path

import pytest
from safetensors.torch import load_file

from bigtrain.augment.ada import apply_named
from bigtrain.ops import reference_paths
from tests.numerics import golden

TRANSFORMS = [
    "aniso", "brightness", "color_in_order", "contrast", "cutout", "geometry_in_order", "hue", "imgfilter", "lumaflip",
    "rotate", "rotate90", "saturation", "scale", "xflip", "xfrac", "xint",
]  # fmt: skip


def _file() -> Path:
    return golden.folder("ada-transforms") / "io.safetensors"


def test_no_transform_is_forgotten() -> None:
    assert sorted({name.partition("@")[0] for name in load_file(_file())} - {"images"}) == TRANSFORMS


@pytest.mark.parametrize("path", ["fast", "reference"])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_equals_the_reference(transform: str, path: str) -> None:
    io = load_file(_file())
    cases = {name: float(name.partition("=")[2]) for name in io if name.startswith(f"{transform}@")}
    assert len(cases) == 2
    for name, value in cases.items():
        with reference_paths() if path == "reference" else contextlib.nullcontext():
            ours = apply_named(transform, io["images"], value)
        error = (ours - io[name]).abs().max() / io[name].abs().max()
        assert error < (1e-5 if path == "fast" else 5e-5), f"{name}: error {error:.2e} of the output's scale"

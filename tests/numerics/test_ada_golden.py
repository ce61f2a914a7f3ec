"""Every transform of adaptive augmentation equals the reference implementation's."""

import os

import pytest
from safetensors import safe_open

from bigtrain.augment.ada import apply_named
from tests.numerics import golden

FILE = golden.FOLDER / "ada-transforms" / "io.safetensors"


def _names() -> list[str]:
    if not FILE.is_file():
        return []
    with safe_open(FILE, "pt") as file:
        return [name for name in file.keys() if "@" in name]  # noqa: SIM118 - it is no mapping


@pytest.mark.skipif(not FILE.is_file() and not os.environ.get("CI"), reason=f"no golden vectors at {FILE}")
def test_all_transforms_are_there() -> None:
    assert len({name.split("@")[0] for name in _names()}) == 16


@pytest.mark.parametrize("name", _names())
def test_equals_the_reference(name: str) -> None:
    transform, parameter = name.split("@")
    with safe_open(FILE, "pt") as file:
        images, expected = file.get_tensor("images"), file.get_tensor(name)
    ours = apply_named(transform, images, float(parameter.split("=")[1]))
    golden.assert_same(ours, expected, 1e-5)

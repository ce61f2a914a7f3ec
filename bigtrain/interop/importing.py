"""Others' weights become a snapshot, which samples, is scored and is trained further like any other."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bigtrain.core.rng import Draws
from bigtrain.generate.snapshot import save_snapshot
from bigtrain.interop.errors import InteropError
from bigtrain.interop.foreign import Foreign
from bigtrain.interop.load import build_networks
from bigtrain.interop.nvidia import read_nvidia
from bigtrain.interop.state_dicts import read_state_dicts
from bigtrain.models import DataSpec, ImageSpec
from bigtrain.tasks.samplers import SynthesisSampler, TaskSampler
from bigtrain.tasks.translation import TranslationSampler
from data_pipelines.content import HEAD, what_came_instead
from data_pipelines.fields.spec import FieldSpec

_CALIBRATION = 10_000
"""Latents whose mean style is taken where a file does not hold it."""


def import_weights(file: Path, out: Path, *, discriminator: Path | None, settings: Mapping[str, Any]) -> list[str]:
    """Write a snapshot of others' weights.

    Args:
        file: `.pkl` of StyleGAN2-ADA or StyleGAN3; or `.pth`, `.pt`, `.safetensors` of BigGAN, R3GAN, rosinality's
            StyleGAN2, pix2pix, CycleGAN, ESRGAN or SRGAN.
        out: the snapshot's folder, new.
        discriminator: the discriminator's own file, where it has one.
        settings: what the file does not tell, or tells wrongly, in the reference's own words.

    Returns:
        What the snapshot holds, a line each.

    Raises:
        InteropError: damaged, refused, not understood, or `out` is there already.
    """
    if out.exists():
        raise InteropError(f"{out}: exists already; choose another folder")
    for given in (file, *([discriminator] if discriminator else [])):
        _refuse_failed_download(given)
    if file.suffix.lower() in (".pkl", ".pickle"):
        if discriminator is not None:
            raise InteropError(f"{file}: a pickle contains its discriminator; leave out --discriminator")
        foreign = read_nvidia(file)
    else:
        foreign = read_state_dicts(file, discriminator)
    try:
        return _write(foreign, {**foreign.settings, **settings}, out, source=file.name)
    except InteropError as error:
        raise InteropError(f"{file}: {error}") from None


def _refuse_failed_download(file: Path) -> None:
    with contextlib.suppress(OSError), file.open("rb") as opened:  # who reads the file says what is wrong with it
        if instead := what_came_instead(opened.read(HEAD)):
            raise InteropError(f"{file}: {instead}")


def _write(foreign: Foreign, settings: Mapping[str, Any], out: Path, *, source: str) -> list[str]:
    untold = foreign.untold - settings.keys()
    if untold:
        raise InteropError(f"it does not contain {' and '.join(sorted(untold))}: set it with --set NAME=VALUE")
    networks = build_networks(foreign.peer, settings, foreign.weights)
    images = networks["G"].spec.data
    sampler = _sampler(images)
    if not foreign.calibrated:
        with torch.no_grad():
            sampler.calibrate({"G": networks["G"].network}, Draws(0, torch.arange(_CALIBRATION), "calibrate"))
    made = images[-1]
    assert isinstance(made, ImageSpec)
    save_snapshot(
        out,
        {name: built.network for name, built in networks.items()},
        {name: built.spec for name, built in networks.items()},
        sampler,
        averaged=("G",),
        class_names=[str(index) for index in range(made.classes)],
        facts={"imported_from": source},
    )
    return [
        *foreign.notes,
        *(
            f"{part}: {spec.config.model_dump()['kind']}, {made.resolution} pixels, {made.classes or 'no'} classes, "
            f"{sum(value.numel() for value in network.parameters()):,} parameters"
            for part, (spec, network, _) in networks.items()
        ),
    ]


def _sampler(images: Sequence[DataSpec | None]) -> TaskSampler:
    """Return the sampler of a network that makes the last of the images, from the first one if there are two."""
    match images:
        case [ImageSpec() as image]:
            return SynthesisSampler.for_images(image)
        case [ImageSpec() as source, ImageSpec() as target]:
            return TranslationSampler(
                inputs={"input": FieldSpec("image", source.shape, "uint8")},
                outputs={"target": FieldSpec("image", target.shape, "uint8")},
            )
        case _:
            raise AssertionError(f"no network makes images from {images}")

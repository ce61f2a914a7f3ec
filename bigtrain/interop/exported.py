"""What `bigtrain export` writes: a snapshot's network as a function of tensors alone, and inputs to compare it with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.generate.apply import translation_of
from bigtrain.generate.snapshot import Snapshot, SnapshotError
from bigtrain.interop.errors import InteropError
from bigtrain.models import Generator, ImageSpec, Translator
from bigtrain.tasks.samplers import VectorConditionSampler


@dataclass(frozen=True)
class Export:
    """A program, and what its exporters are told.

    Attributes:
        program: a function of tensors, in evaluation mode.
        network: whose weights the program uses.
        inputs: the program's, by name and in order; an example of their shapes.
        output: what the program's output is called.
        sizes: of the inputs, their axes that may have any size, with the size's name or symbol.
        checks: inputs that what was written is compared with.
    """

    program: nn.Module
    network: nn.Module
    inputs: dict[str, Tensor]
    output: str
    sizes: dict[str, dict[int, Any]]
    checks: Sequence[tuple[Tensor, ...]]


class GeneratorProgram(nn.Module):
    """A generator as a function of tensors alone: (z [N, z_dim], class indices [N]) -> images [N, C, H, W].

    Args:
        generator: in evaluation mode; its noise is the constant one.
        truncation: built in.
    """

    def __init__(self, generator: Generator, truncation: float) -> None:
        super().__init__()
        self.generator, self.truncation = generator, truncation

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        """Generate images."""
        image: Tensor = self.generator(z, label, truncation=self.truncation)
        return image


class TranslatorProgram(nn.Module):
    """A translator as a function of one tensor: images [N, C, H, W] -> images, without its own noise.

    Args:
        translator: in evaluation mode.
    """

    def __init__(self, translator: Translator) -> None:
        super().__init__()
        self.translator = translator

    def forward(self, image: Tensor) -> Tensor:
        """Translate images."""
        made: Tensor = self.translator(image)
        return made


def export_of(snapshot: Snapshot, folder: Path, *, truncation: float | None, output: str | None) -> Export:
    """Return what there is to export of a snapshot.

    Args:
        snapshot: with a generator, or with translators.
        folder: where it lies, for messages.
        truncation: of a generator; None for none.
        output: of translators, which output; None for the first.

    Raises:
        UserError: the options do not fit the network.
        InteropError: there is no such network, or none that can be exported.
    """
    if not any(isinstance(network, Translator) for network in snapshot.networks.values()):
        if output is not None:
            raise InteropError(f"--output {output}: {folder} contains a generator, which has one output; leave it out")
        return _of_generator(snapshot, 1.0 if truncation is None else truncation)
    if truncation is not None:
        raise InteropError(f"--truncation: {folder} contains a translator, which has none; leave it out")
    return _of_translator(snapshot, folder, output)


def _of_generator(snapshot: Snapshot, truncation: float) -> Export:
    generator, sampler = snapshot.generator, snapshot.sampler

    def inputs(count: int) -> tuple[Tensor, Tensor]:
        draws = Draws(0, torch.arange(count), "export")
        if isinstance(sampler, VectorConditionSampler):
            return draws.of("z").normal(generator.z_dim), sampler.label_of({}, draws)
        label = draws.of("label").integers(max(snapshot.classes, 1), 1).squeeze(1)
        return draws.of("z").normal(generator.z_dim), label

    batch = torch.export.Dim("batch")
    names = ("z", "label")
    return Export(
        GeneratorProgram(generator, truncation).eval(),
        generator,
        dict(zip(names, inputs(2), strict=True)),
        "image",
        {name: {0: batch} for name in names},
        [inputs(3)],
    )


def _of_translator(snapshot: Snapshot, folder: Path, output: str | None) -> Export:
    target = translation_of(snapshot, folder, output).target
    network_of = getattr(snapshot.sampler, "network_of", None)
    if network_of is None:
        kind = snapshot.sampler.describe()["kind"]
        raise InteropError(f"{folder}: networks of the task '{kind}' cannot be exported")
    translator = snapshot.networks[network_of(target)]
    assert isinstance(translator, Translator)
    if not isinstance(translator.input, ImageSpec):
        raise SnapshotError(f"{folder}: '{translator.kind}' reads arrays; only translators of images are exported")
    channels, height, width = translator.input.shape
    multiple = translator.multiple

    def images(count: int, more_high: int, more_wide: int) -> Tensor:
        draws = Draws(0, torch.arange(count), "export")
        size = (channels, height + more_high * multiple, width + more_wide * multiple)
        return draws.integers(256, *size).float() / 127.5 - 1

    sides = {axis: torch.export.Dim(name) for axis, name in ((2, "height"), (3, "width"))}
    symbols = {axis: multiple * side if multiple > 1 else side for axis, side in sides.items()}
    return Export(
        TranslatorProgram(translator).eval(),
        translator,
        {"image": images(2, 0, 1)},  # a size of 1 and equal sides would be taken for constants
        "output",
        {"image": {0: torch.export.Dim("batch"), **symbols}},
        [(images(1, 0, 0),), (images(3, 2, 1),)],
    )

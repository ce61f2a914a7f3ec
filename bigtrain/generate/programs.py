"""A snapshot as programs that need PyTorch and nothing of bigtrain: seeds -> latents and classes -> images."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from bigtrain.generate.snapshot import Snapshot, SnapshotError
from bigtrain.models import Generator, StyleGenerator
from bigtrain.tasks.samplers import SynthesisSampler
from data_pipelines.errors import first_line

GENERATOR_FILE, LATENTS_FILE = "generator.pt2", "latents.pt2"
TOLERANCE = 1e-4
"""How far a program's images may be from the generator's, of their scale."""


class GeneratorProgram(nn.Module):
    """A generator as a function of tensors alone: (z, class, truncation) -> images.

    Args:
        generator: in evaluation mode; its noise is the constant one.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor, label: Tensor, truncation: Tensor) -> Tensor:
        """Generate images around [-1, 1], shape [N, C, H, W].

        Args:
            z: shape [N, z_dim].
            label: class indices, int64, shape [N].
            truncation: of each image, float32, shape [N].
        """
        generator = self.generator
        if isinstance(generator, StyleGenerator):
            centre = generator.styles(z, label, truncation=0.0)
            styles = generator.styles(z, label)
            image: Tensor = generator.synthesize(centre.lerp(styles.float(), truncation[:, None, None]))
            return image
        factor: Any = truncation[:, None]  # these families multiply the latent with it
        return cast(Tensor, generator(z, label, truncation=factor))


class LatentsProgram(nn.Module):
    """What `Snapshot.sample` draws for each seed: its latent and its class, or the vector that conditions it.

    Args:
        z_dim: length of the latent.
        sampler: draws the class or vector.
    """

    def __init__(self, z_dim: int, sampler: SynthesisSampler) -> None:
        super().__init__()
        self.z_dim, self.sampler = z_dim, sampler

    def forward(self, seed: Tensor) -> tuple[Tensor, Tensor]:
        """Map seeds, int64, shape [N], to latents [N, z_dim] and class indices [N], or vectors [N, K]."""
        draws = Snapshot.draws(seed)
        return draws.of("z").normal(self.z_dim), self.sampler.label_of({}, draws)


def write_programs(snapshot: Snapshot, folder: Path) -> float:
    """Write both programs into `folder`, and compare what was written with the snapshot.

    They take any batch.

    Returns:
        The largest difference of the images, as a share of their scale.

    Raises:
        SnapshotError: this network cannot be written, or what was written computes something else.
    """
    generator, sampler = snapshot.generator, snapshot.sampler
    seeds = torch.arange(3)
    if not isinstance(sampler, SynthesisSampler) or getattr(sampler, "derived", None):
        raise SnapshotError("this network generates a derived field, whose inverse cannot be a part of a program")
    latents = LatentsProgram(generator.z_dim, sampler)
    program = GeneratorProgram(generator).eval()
    folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), _without_warnings():
        inputs = (*latents(seeds), torch.tensor([1.0, 0.5, 0.7]))
        expected = torch.cat([snapshot.sample([0]), snapshot.sample([1], truncation=0.5)])
        try:
            _export(latents, (seeds,), ("seed",), folder / LATENTS_FILE)
            _export(program, inputs, ("z", "label", "truncation"), folder / GENERATOR_FILE)
        except Exception as failure:  # torch.export fails in as many ways as there are operators
            raise SnapshotError(f"this network cannot be written as a program ({first_line(failure)})") from None
        z, label = torch.export.load(folder / LATENTS_FILE).module()(seeds[:2])
        images = torch.export.load(folder / GENERATOR_FILE).module()(z, label, inputs[2][:2])
        error = float((images - expected).abs().max() / expected.abs().max())
    if not error <= TOLERANCE:
        raise SnapshotError(f"as a program, the images differ by {error:.1e} of their scale")
    return error


def _export(program: nn.Module, inputs: tuple[Tensor, ...], names: tuple[str, ...], path: Path) -> None:
    batch = torch.export.Dim("batch")
    exported = torch.export.export(program, inputs, dynamic_shapes={name: {0: batch} for name in names})
    torch.export.save(exported, path)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep the exporter's notes on its own insides from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

"""Between images: walks through the latent space, turning cameras, tables of mixed styles, sweeps of truncation."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from bigtrain.core.quantise import to_uint8
from bigtrain.generate.snapshot import Snapshot, SnapshotError
from bigtrain.models import StyleGenerator
from bigtrain.tasks.samplers import CLASS, SynthesisSampler, VectorConditionSampler

_BATCH = 32


def slerp(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """Go from one latent to another along the sphere (Shoemake 1985; for latents, White 2016).

    A straight line between two normal vectors passes through lengths that the generator has hardly ever seen.

    Args:
        start: shape [N, z_dim].
        end: the same shape.
        share: of the way, 0 to 1, shape [N].

    Returns:
        Shape [N, z_dim]; where the two point the same way, the straight line.
    """
    cosine = F.cosine_similarity(start, end, dim=1).clamp(-1, 1)
    angle = cosine.acos()[:, None]
    share = share[:, None]
    sine = angle.sin()
    curved = (((1 - share) * angle).sin() * start + (share * angle).sin() * end) / sine
    return torch.where(sine.abs() > 1e-4, curved, start.lerp(end, share))


@torch.inference_mode()
def walk(
    snapshot: Snapshot, seeds: Sequence[int], labels: Sequence[int], *, frames: int, truncation: float = 1.0
) -> Iterator[Tensor]:
    """Walk from seed to seed, and from the last one back to the first.

    A class blends into the next one's by its weights, and a vector that conditions moves to the next one's.

    Args:
        snapshot: whose images.
        seeds: two or more stations.
        labels: class index of each station.
        frames: from one station to the next.
        truncation: see `Snapshot.sample`.

    Yields:
        Images, uint8, shape [C, H, W]; `frames` for each station.
    """
    z, conditions = snapshot.latents(seeds), _conditions(snapshot, seeds, labels)
    for start, end, share in _steps(len(seeds), frames):
        label = _label(snapshot, conditions[start].lerp(conditions[end], share[:, None]))
        yield from _images(snapshot, slerp(z[start], z[end], share), label, truncation)


@torch.inference_mode()
def turn(
    snapshot: Snapshot,
    seeds: Sequence[int],
    conditions: Sequence[Sequence[float]],
    *,
    frames: int,
    truncation: float = 1.0,
) -> Iterator[Tensor]:
    """Move all seeds from condition to condition, and from the last one back to the first: a camera around objects.

    Args:
        snapshot: of a generator that is conditioned on a vector.
        seeds: of the images.
        conditions: two or more stations.
        frames: from one station to the next.
        truncation: see `Snapshot.sample`.

    Yields:
        Images of all seeds, uint8, shape [seeds, C, H, W]; `frames` for each station.

    Raises:
        SnapshotError: the generator has no such condition.
    """
    stations = torch.cat([next(iter(snapshot.condition(numbers).values())) for numbers in conditions])
    z = snapshot.latents(seeds)
    for start, end, share in _steps(len(stations), frames):
        for vector in stations[start].lerp(stations[end], share[:, None]):
            label = _label(snapshot, vector.expand(len(seeds), -1))
            parts = [slice(first, first + _BATCH) for first in range(0, len(seeds), _BATCH)]
            yield torch.cat([_images(snapshot, z[part], label[part], truncation) for part in parts])


def _steps(stations: int, frames: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield, for a few frames at a time, the stations before and after them, and their share of the way."""
    for few in torch.split(torch.arange(stations * frames), _BATCH):
        start = few // frames
        yield start, (start + 1) % stations, (few % frames) / frames


def _conditions(snapshot: Snapshot, seeds: Sequence[int], labels: Sequence[int]) -> Tensor:
    """Return the vectors that condition stations, which are weights of classes if it is classes that do."""
    if CLASS in snapshot.sampler.inputs or not snapshot.sampler.inputs:
        return F.one_hot(torch.tensor(labels), max(snapshot.classes, 1)).float()
    (drawn,) = snapshot.sampler.draw_inputs(snapshot.draws(torch.tensor(seeds, dtype=torch.int64))).values()
    return drawn


def _label(snapshot: Snapshot, conditions: Tensor) -> Tensor:
    """Return what the generator takes, from such vectors."""
    sampler = snapshot.sampler
    index = torch.zeros(len(conditions), dtype=torch.int64)
    if isinstance(sampler, VectorConditionSampler):
        return sampler.label_of(dict.fromkeys(sampler.inputs, conditions), snapshot.draws(index))
    return conditions if snapshot.classes else index


def _images(snapshot: Snapshot, z: Tensor, label: Tensor, truncation: float) -> Tensor:
    """Return the images of latents, uint8; of sounds, the spectrograms that the network generates."""
    made, sampler = snapshot.generator(z, label, truncation=truncation), snapshot.sampler
    if isinstance(sampler, SynthesisSampler) and all(spec.kind == "image" for spec in sampler.outputs.values()):
        made = sampler.output_of(made, snapshot.draws(torch.zeros(len(z), dtype=torch.int64)))
    return to_uint8(made)


@torch.inference_mode()
def mix_table(
    snapshot: Snapshot,
    rows: Sequence[int],
    columns: Sequence[int],
    label: int,
    *,
    layers: range | None = None,
    truncation: float = 1.0,
) -> Tensor:
    """Give each row's image the styles of each column's in some layers (Karras et al. 2019, figure 3).

    Args:
        snapshot: of a style-based generator.
        rows: seeds.
        columns: seeds.
        label: class of all of them.
        layers: that take their style from the column; None for the first half.
        truncation: see `Snapshot.sample`.

    Returns:
        uint8, shape [(1 + rows) * (1 + columns), C, H, W], row by row: white, the columns' images; then each row's
        own image and its mixtures.

    Raises:
        SnapshotError: the generator has no styles, or not so many layers.
    """
    generator = snapshot.generator
    if not isinstance(generator, StyleGenerator):
        raise SnapshotError("this generator has no styles to mix; a style-based one has (stylegan1, 2 and 3)")
    layers = range(generator.num_ws // 2) if layers is None else layers
    if not layers or layers.stop > generator.num_ws:
        raise SnapshotError(f"this generator's layers are 0 to {generator.num_ws - 1}")
    seeds = [*columns, *rows]
    styles = generator.styles(
        snapshot.latents(seeds), torch.full((len(seeds),), label, dtype=torch.int64), truncation=truncation
    )
    theirs, own = styles[: len(columns)], styles[len(columns) :]
    table = own[:, None].repeat(1, 1 + len(columns), 1, 1)
    table[:, 1:, layers.start : layers.stop] = theirs[None, :, layers.start : layers.stop]
    everything = torch.cat([theirs, table.flatten(0, 1)])
    images = torch.cat([to_uint8(generator.synthesize(few)) for few in torch.split(everything, _BATCH)])
    return torch.cat([torch.full_like(images[:1], 255), images])


def truncation_table(
    snapshot: Snapshot, seeds: Sequence[int], labels: Sequence[int], truncations: Sequence[float]
) -> Tensor:
    """Show each seed at several truncations.

    Returns:
        uint8, shape [seeds * truncations, C, H, W], a row a seed.
    """
    columns = [to_uint8(snapshot.sample(seeds, labels, truncation=truncation)) for truncation in truncations]
    return torch.stack(columns, dim=1).flatten(0, 1)

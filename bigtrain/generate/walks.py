"""Between images: walks through the latent space, tables of mixed styles, sweeps of truncation."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from bigtrain.core.quantise import to_uint8
from bigtrain.generate.snapshot import Snapshot, SnapshotError
from bigtrain.models import StyleGenerator

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

    A class blends into the next one's by its weights.

    Args:
        snapshot: whose images.
        seeds: two or more stations.
        labels: class index of each station.
        frames: from one station to the next.
        truncation: see `Snapshot.sample`.

    Yields:
        Images, uint8, shape [C, H, W]; `frames` for each station.
    """
    generator, stations = snapshot.generator, len(seeds)
    z = snapshot.latents(seeds)
    classes = generator.image.classes
    weights = F.one_hot(torch.tensor(labels), max(classes, 1)).float()
    place = torch.arange(stations * frames)
    for few in torch.split(place, _BATCH):
        start, share = few // frames, (few % frames) / frames
        end = (start + 1) % stations
        label = weights[start].lerp(weights[end], share[:, None]) if classes else torch.zeros_like(few)
        yield from to_uint8(generator(slerp(z[start], z[end], share), label, truncation=truncation))


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

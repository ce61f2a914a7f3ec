"""Pictures of a run: the same scenes at every preview, so that a slider over them shows the training alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from bigtrain.core.quantise import to_uint8
from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress
from bigtrain.core.to_host import one_behind
from bigtrain.distributed.collectives import to_rank_zero
from bigtrain.distributed.init import Ranks
from bigtrain.engine.reals import Reals
from bigtrain.generate.pictures import at_most, captioned, image_grid
from bigtrain.models import Generator
from bigtrain.tasks.base import Task
from data_pipelines.codec import Pixels

TRUNCATIONS = (0.0, 0.25, 0.5, 0.7, 0.85, 1.0)
REALS = 64
"""Real images that are asked for, at most."""
_PAGE = 1280
"""Pixels that a page of a browser shows side by side."""
_CLASSES, _ROWS = 20, 8
_CAPTIONS = [f"truncation {TRUNCATIONS[0]:g}", *(f"{psi:g}" for psi in TRUNCATIONS[1:])]


@dataclass(frozen=True)
class _Scene:
    """A picture to be.

    Attributes:
        index: of the latents, shape [N].
        compose: makes a picture of the images, uint8, shape [truncations * N, C, H, W], one truncation after the other.
        label: class of each; None draws them.
        truncations: each latent is shown at all of them.
    """

    index: Tensor
    compose: Callable[[Tensor], Pixels]
    label: Tensor | None = None
    truncations: Sequence[float] = (1.0,)


@dataclass(frozen=True)
class Previews:
    """Draws the scenes of a run; the ranks share the work.

    Attributes:
        task: generates.
        reals: fixed real images.
        class_names: in the order of their indices; empty when unconditional.
        seed: the run's.
        chunk: images that are generated at once.
        ranks: who shares the work.
    """

    task: Task
    reals: Reals
    class_names: Sequence[str]
    seed: int
    chunk: int
    ranks: Ranks

    def draw(self, generator: Generator, progress: Progress) -> dict[str, Pixels]:
        """Draw all scenes. Collective.

        Args:
            generator: the averaged one, ready to sample.
            progress: where the run is.

        Returns:
            Pictures by the key of their slider, uint8, shape [height, width] or [height, width, 3]; none but on rank 0.
        """
        scenes = {
            "samples/fakes": self._fakes(generator),
            "samples/truncation": self._truncation(),
            "samples/real_and_fake": self._real_and_fake(generator),
        }
        if self.class_names:
            scenes["samples/by_class"] = self._by_class(generator)
        images = self._generate(generator, list(scenes.values()))
        if not images:
            return {}
        pictures = {key: scene.compose(found) for (key, scene), found in zip(scenes.items(), images, strict=True)}
        seen = self._as_seen(progress)
        if seen is not None:
            pictures["data/augmented"] = seen
        return {key: at_most(picture, _PAGE) for key, picture in pictures.items()}

    def _fakes(self, generator: Generator) -> _Scene:
        columns = _columns(generator)
        return _Scene(torch.arange(_ROWS * columns), lambda images: image_grid(images, columns))

    def _by_class(self, generator: Generator) -> _Scene:
        """Show a row a class, the latents of a column being the same; of many classes, some, evenly chosen."""
        columns, count = _columns(generator), len(self.class_names)
        shown = np.linspace(0, count - 1, min(count, _CLASSES)).round().astype(int).tolist()
        names = [self.class_names[label] for label in shown]
        return _Scene(
            torch.arange(columns).repeat(len(shown)),
            lambda images: captioned(image_grid(images, columns), rows=names),
            label=torch.tensor(shown).repeat_interleave(columns),
        )

    def _truncation(self) -> _Scene:
        def compose(images: Tensor) -> Pixels:
            rows = images.reshape(len(TRUNCATIONS), _ROWS, *images.shape[1:]).transpose(0, 1).flatten(0, 1)
            return captioned(image_grid(rows, len(TRUNCATIONS)), columns=_CAPTIONS)

        return _Scene(torch.arange(_ROWS), compose, truncations=TRUNCATIONS)

    def _real_and_fake(self, generator: Generator) -> _Scene:
        def compose(images: Tensor) -> Pixels:
            return _beside(self.reals.images, images, ("real", "generated"), _columns(generator) // 2)

        return _Scene(torch.arange(len(self.reals)), compose, label=self.reals.label)

    def _as_seen(self, progress: Progress) -> Pixels | None:
        """Draw real images beside what D is shown of them; None where it sees them as they are."""
        device = self.ranks.device
        real = self.reals.images.to(device).float() / 127.5 - 1.0
        draws = Draws(self.seed, torch.arange(len(real), device=device), "preview")
        seen = to_uint8(self.task.shown(real, draws, progress)).cpu()
        if torch.equal(seen, self.reals.images):
            return None
        columns = max(2, min(5, _PAGE // 2 // real.shape[3]))
        return _beside(self.reals.images, seen, ("real", "as D sees it"), columns)

    def _generate(self, generator: Generator, scenes: Sequence[_Scene]) -> list[Tensor]:
        """Return the images of each scene, on rank 0; nothing on the others. Collective."""
        parts = [
            (scene, truncation, slice(start, start + self.chunk))
            for scene in scenes
            for truncation in scene.truncations
            for start in range(0, len(scene.index), self.chunk)
        ]
        rank, world_size = self.ranks.rank, self.ranks.world_size
        mine = (self._chunk(generator, *part) for part in parts[rank::world_size])
        by_rank = [iter(found) for found in to_rank_zero(list(one_behind(mine)))]
        if not by_rank:
            return []
        in_order = (next(by_rank[number % world_size]) for number in range(len(parts)))
        of_scene = [len(scene.truncations) * -(-len(scene.index) // self.chunk) for scene in scenes]
        return [torch.cat(list(islice(in_order, count))) for count in of_scene]

    def _chunk(self, generator: Generator, scene: _Scene, truncation: float, rows: slice) -> Tensor:
        device = self.ranks.device
        draws = Draws(self.seed, scene.index[rows].to(device), "preview")
        label = None if scene.label is None else scene.label[rows].to(device)
        return to_uint8(self.task.generate(generator, draws, label=label, truncation=truncation))


def _columns(generator: Generator) -> int:
    """Return how many images fit side by side: 4 to 10, and even."""
    return max(4, min(10, _PAGE // generator.image.shape[2] // 2 * 2))


def _beside(left: Tensor, right: Tensor, titles: tuple[str, str], columns: int) -> Pixels:
    """Lay two equally long lists of images out side by side, as many rows as are full."""
    rows = min(len(left) // columns, _ROWS)
    shape = (rows, columns, *left.shape[1:])
    pairs = torch.cat([half[: rows * columns].reshape(shape) for half in (left, right)], dim=1)
    return captioned(image_grid(pairs.flatten(0, 1), 2 * columns), columns=titles)

"""Pictures of a run: the same scenes at every preview, so that a slider over them shows the training alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bigtrain.core.quantise import to_uint8
from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress
from bigtrain.health.probes.reals import Reals
from bigtrain.models import Generator
from bigtrain.pictures import at_most, captioned, image_grid
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
class Previews:
    """Draws the scenes of a run, on one rank.

    Attributes:
        task: generates.
        reals: fixed real images.
        class_names: in the order of their indices; empty when unconditional.
        seed: the run's.
        chunk: images that are generated at once.
        device: where the generator lives.
    """

    task: Task
    reals: Reals
    class_names: Sequence[str]
    seed: int
    chunk: int
    device: torch.device

    def draw(self, generator: Generator, progress: Progress) -> dict[str, Pixels]:
        """Draw all scenes.

        Args:
            generator: the averaged one, ready to sample.
            progress: where the run is.

        Returns:
            Pictures by the key of their slider, uint8, shape [height, width] or [height, width, 3].
        """
        scenes = {
            "samples/fakes": self._fakes(generator),
            "samples/truncation": self._truncation(generator),
            "samples/real_and_fake": self._real_and_fake(generator),
        }
        if self.class_names:
            scenes["samples/by_class"] = self._by_class(generator)
        seen = self._as_seen(progress)
        if seen is not None:
            scenes["data/augmented"] = seen
        return {key: at_most(picture, _PAGE) for key, picture in scenes.items()}

    def _fakes(self, generator: Generator) -> Pixels:
        columns = _columns(generator)
        return image_grid(self._generate(generator, torch.arange(_ROWS * columns)), columns)

    def _by_class(self, generator: Generator) -> Pixels:
        """Draw a row a class, the latents of a column being the same; of many classes, some, evenly chosen."""
        columns, count = _columns(generator), len(self.class_names)
        shown = np.linspace(0, count - 1, min(count, _CLASSES)).round().astype(int).tolist()
        index = torch.arange(columns).repeat(len(shown))
        images = self._generate(generator, index, torch.tensor(shown).repeat_interleave(columns))
        return captioned(image_grid(images, columns), rows=[self.class_names[label] for label in shown])

    def _truncation(self, generator: Generator) -> Pixels:
        index = torch.arange(_ROWS)
        by_truncation = [self._generate(generator, index, truncation=psi) for psi in TRUNCATIONS]
        images = torch.stack(by_truncation, dim=1).flatten(0, 1)
        return captioned(image_grid(images, len(TRUNCATIONS)), columns=_CAPTIONS)

    def _real_and_fake(self, generator: Generator) -> Pixels:
        fakes = self._generate(generator, torch.arange(len(self.reals)), self.reals.label)
        return _beside(self.reals.images, fakes, ("real", "generated"), _columns(generator) // 2)

    def _as_seen(self, progress: Progress) -> Pixels | None:
        """Draw real images beside what D is shown of them; None where it sees them as they are."""
        real = self.reals.images.to(self.device).float() / 127.5 - 1.0
        draws = Draws(self.seed, torch.arange(len(real), device=self.device), "preview")
        seen = to_uint8(self.task.shown(real, draws, progress)).cpu()
        if torch.equal(seen, self.reals.images):
            return None
        columns = max(2, min(5, _PAGE // 2 // real.shape[3]))
        return _beside(self.reals.images, seen, ("real", "as D sees it"), columns)

    def _generate(
        self, generator: Generator, index: Tensor, label: Tensor | None = None, *, truncation: float = 1.0
    ) -> Tensor:
        """Generate an image a latent: uint8, shape [N, C, H, W], on the host."""
        draws = Draws(self.seed, index.to(self.device), "preview")
        label = None if label is None else label.to(self.device)
        chunks = [
            self.task.generate(
                generator, draws[rows], label=None if label is None else label[rows], truncation=truncation
            )
            for rows in (slice(start, start + self.chunk) for start in range(0, len(index), self.chunk))
        ]
        return torch.cat([to_uint8(chunk).cpu() for chunk in chunks])


def _columns(generator: Generator) -> int:
    """Return how many images fit side by side: 4 to 10, and even."""
    return max(4, min(10, _PAGE // generator.image.shape[2] // 2 * 2))


def _beside(left: Tensor, right: Tensor, titles: tuple[str, str], columns: int) -> Pixels:
    """Lay two equally long lists of images out side by side, as many rows as are full."""
    rows = min(len(left) // columns, _ROWS)
    shape = (rows, columns, *left.shape[1:])
    pairs = torch.cat([half[: rows * columns].reshape(shape) for half in (left, right)], dim=1)
    return captioned(image_grid(pairs.flatten(0, 1), 2 * columns), columns=titles)

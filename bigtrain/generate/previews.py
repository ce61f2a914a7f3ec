"""Pictures of a run: the same scenes at every preview, so that a slider over them shows the training alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bigtrain.core.batch import Batch
from bigtrain.core.logging import log
from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress
from bigtrain.core.to_host import one_behind
from bigtrain.distributed.collectives import to_rank_zero
from bigtrain.distributed.init import Ranks
from bigtrain.engine.reals import Reals
from bigtrain.engine.task import Task
from bigtrain.generate.averaged import AveragedNetworks
from bigtrain.generate.displays import displayed
from bigtrain.generate.pictures import at_most, captioned, image_columns, image_grid
from bigtrain.generate.recordings import Recording, can_be_recorded, recorded
from bigtrain.tasks.samplers import CLASS
from data_pipelines.codec import Pixels
from data_pipelines.fields.spec import FieldSpec

TRUNCATIONS = (0.0, 0.25, 0.5, 0.7, 0.85, 1.0)
REALS = 64
"""Real images that are asked for, at most."""
_PAGE = 1280
"""Pixels that a page of a browser shows side by side."""
_CLASSES, _ROWS, _TRANSLATED = 20, 8, 8
_RECORDED = 16
_CAPTIONS = [f"truncation {TRUNCATIONS[0]:g}", *(f"{psi:g}" for psi in TRUNCATIONS[1:])]


@dataclass(frozen=True)
class _Scene:
    """A picture to be.

    Attributes:
        output: which of the sampler's.
        index: of the draws, shape [N].
        compose: makes a picture of the outputs, uint8, shape [choices * N, C, H, W], one choice after the other.
        inputs: by field, each [N, …]; those that are left out are drawn.
        choices: of the sampler; each sample is shown with all of them.
    """

    output: str
    index: Tensor
    compose: Callable[[Tensor], Pixels]
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    choices: Sequence[Mapping[str, Any]] = ({},)


@dataclass(frozen=True)
class Previews:
    """Draws the scenes of a run; the ranks share the work.

    Attributes:
        task: whose run it is.
        averaged: generates.
        reals: fixed real samples.
        class_names: in the order of their indices; empty when unconditional.
        seed: the run's.
        chunk: images that are generated at once.
        ranks: who shares the work.
    """

    task: Task
    averaged: AveragedNetworks
    reals: Reals
    class_names: Sequence[str]
    seed: int
    chunk: int
    ranks: Ranks

    def draw(self, progress: Progress) -> dict[str, Pixels]:
        """Draw all scenes. Collective.

        Args:
            progress: where the run is.

        Returns:
            Pictures by the key of their slider, uint8, shape [height, width] or [height, width, 3]; none but on rank 0.
        """
        given = [name for name in self.task.sampler.inputs if name not in self.task.sampler.drawn]
        scenes = self._translations(given) if given else self._syntheses()
        images = self._generate(list(scenes.values()))
        if not images:
            return {}
        pictures = {key: scene.compose(found) for (key, scene), found in zip(scenes.items(), images, strict=True)}
        return {key: at_most(picture, _PAGE) for key, picture in {**pictures, **self._as_seen(progress)}.items()}

    def record(self) -> dict[str, Recording]:
        """Record some samples that sound or move, by the key of their slider; none but on rank 0, after `draw`."""
        found: dict[str, Recording] = {}
        given = [name for name in self.task.sampler.inputs if name not in self.task.sampler.drawn]
        for output in self.task.sampler.outputs:
            spec = self._spec(output)
            if self.ranks.rank or not can_be_recorded(spec):
                continue
            sources = [name for name in given if name in self.task.sampler.sources(output)]
            samples = self._translated(sources, output) if given else self._fresh(output)
            try:
                recording = recorded(samples, spec)
            except OSError as error:  # FFmpeg's errors are of this kind, too
                log.warning("%s: cannot be recorded (%s): training continues without", output, error)
                continue
            if recording is not None:
                what = "heard" if recording.suffix == ".wav" else "moving"
                found[f"samples/{output}_{what}" if given else f"samples/{what}"] = recording
        return found

    def _fresh(self, output: str) -> Tensor:
        """Return samples of a generator that needs no input but a class, on the CPU."""
        return self._in_chunks(torch.arange(_RECORDED), output, {})

    def _translated(self, sources: Sequence[str], output: str) -> Tensor:
        """Return what becomes of real inputs, each behind its true target if there is one, on the CPU."""
        rows = range(min(_RECORDED // 2, len(self.reals)))
        real = self.reals.batch(rows, torch.device("cpu"))
        made = self._in_chunks(torch.arange(len(rows)), output, {name: real[name] for name in sources})
        if output not in self.task.sampler.pairs_with_targets:
            return made
        return torch.stack([real[output], made], dim=1).flatten(0, 1)

    def _syntheses(self) -> dict[str, _Scene]:
        """Return the scenes of a generator that needs no input but a class."""
        (name,) = self.task.sampler.outputs
        scenes = {"samples/fakes": self._fakes(name), "samples/real_and_fake": self._real_and_fake(name)}
        if "truncation" in self.task.sampler.choices:
            scenes["samples/truncation"] = self._truncation(name)
        if self.class_names and CLASS in self.task.sampler.inputs:
            scenes["samples/by_class"] = self._by_class(name)
        return scenes

    def _translations(self, given: Sequence[str]) -> dict[str, _Scene]:
        """Return, for each output, rows of real inputs, what becomes of them, and the true target if there is one."""
        scenes = {}
        for output in self.task.sampler.outputs:
            sources = self.task.sampler.sources(output)
            scenes[f"samples/{output}"] = self._translation([name for name in given if name in sources], output)
        return scenes

    def _translation(self, sources: Sequence[str], output: str) -> _Scene:
        rows = range(min(_TRANSLATED, len(self.reals)))
        real = self.reals.batch(rows, torch.device("cpu"))
        paired = output in self.task.sampler.pairs_with_targets
        target = {"target": self._displayed(output, real[output])} if paired else {}

        def compose(images: Tensor) -> Pixels:
            given = {name: self._displayed(name, real[name]) for name in sources}
            return image_columns({**given, "output": images, **target})

        inputs = {name: real[name] for name in sources}
        return _Scene(output, torch.arange(len(rows)), compose, inputs)

    def _fakes(self, name: str) -> _Scene:
        columns = self._columns(name)
        return _Scene(name, torch.arange(_ROWS * columns), lambda images: image_grid(images, columns))

    def _by_class(self, name: str) -> _Scene:
        """Show a row a class, the latents of a column being the same; of many classes, some, evenly chosen."""
        columns, count = self._columns(name), len(self.class_names)
        shown = np.linspace(0, count - 1, min(count, _CLASSES)).round().astype(int).tolist()
        names = [self.class_names[label] for label in shown]
        return _Scene(
            name,
            torch.arange(columns).repeat(len(shown)),
            lambda images: captioned(image_grid(images, columns), rows=names),
            {CLASS: torch.tensor(shown).repeat_interleave(columns)},
        )

    def _truncation(self, name: str) -> _Scene:
        def compose(images: Tensor) -> Pixels:
            rows = images.reshape(len(TRUNCATIONS), _ROWS, *images.shape[1:]).transpose(0, 1).flatten(0, 1)
            return captioned(image_grid(rows, len(TRUNCATIONS)), columns=_CAPTIONS)

        return _Scene(name, torch.arange(_ROWS), compose, choices=[{"truncation": psi} for psi in TRUNCATIONS])

    def _real_and_fake(self, name: str) -> _Scene:
        real = self.reals.batch(slice(None), torch.device("cpu"))

        def compose(images: Tensor) -> Pixels:
            return _beside(self._displayed(name, real[name]), images, ("real", "generated"), self._columns(name) // 2)

        inputs = {given: real[given] for given in self.task.sampler.inputs}
        return _Scene(name, torch.arange(len(self.reals)), compose, inputs)

    def _as_seen(self, progress: Progress) -> dict[str, Pixels]:
        """Draw real images beside what a discriminator is shown of them; nothing where it sees them as they are."""
        real = self.reals.batch(slice(None), self.ranks.device)
        real = Batch(real.fields, Draws(self.seed, real.draws.index, "preview"))
        pictures = {}
        for name, seen in self.task.shown(real, progress).items():
            if torch.equal(seen, real[name]):
                continue
            before, after = self._displayed(name, real[name]), self._displayed(name, seen).cpu()
            if not torch.equal(before.cpu(), after):
                columns = max(2, min(5, _PAGE // 2 // before.shape[3]))
                key = "data/augmented" if name == "image" else f"data/augmented_{name}"
                pictures[key] = _beside(before.cpu(), after, ("real", "as D sees it"), columns)
        return pictures

    def _generate(self, scenes: Sequence[_Scene]) -> list[Tensor]:
        """Return the images of each scene, on rank 0; nothing on the others. Collective."""
        parts = [
            (scene, choice, slice(start, start + self.chunk))
            for scene in scenes
            for choice in scene.choices
            for start in range(0, len(scene.index), self.chunk)
        ]
        rank, world_size = self.ranks.rank, self.ranks.world_size
        self.averaged.networks()  # what they compute before sampling, all ranks compute
        mine = (self._chunk(*part) for part in parts[rank::world_size])
        by_rank = [iter(found) for found in to_rank_zero(list(one_behind(mine)))]
        if not by_rank:
            return []
        in_order = (next(by_rank[number % world_size]) for number in range(len(parts)))
        of_scene = [len(scene.choices) * -(-len(scene.index) // self.chunk) for scene in scenes]
        return [torch.cat(list(islice(in_order, count))) for count in of_scene]

    def _chunk(self, scene: _Scene, choice: Mapping[str, Any], rows: slice) -> Tensor:
        inputs = {name: values[rows] for name, values in scene.inputs.items()}
        return self._displayed(scene.output, self._sampled(scene.index[rows], scene.output, inputs, **choice))

    def _in_chunks(self, index: Tensor, output: str, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return samples on the CPU, which are generated on this rank alone."""
        parts = []
        for start in range(0, len(index), self.chunk):
            rows = slice(start, start + self.chunk)
            given = {name: values[rows] for name, values in inputs.items()}
            parts.append(self._sampled(index[rows], output, given).cpu())
        return torch.cat(parts)

    def _sampled(self, index: Tensor, output: str, inputs: Mapping[str, Tensor], **choice: Any) -> Tensor:
        """Return samples of the numbers [N], on the device."""
        device = self.ranks.device
        draws = Draws(self.seed, index.to(device), "preview")
        given = {name: values.to(device) for name, values in inputs.items()}
        return self.averaged.sample(given, draws, **choice)[output]

    def _displayed(self, name: str, samples: Tensor) -> Tensor:
        """Return pictures of a field's samples."""
        return displayed(samples, self._spec(name))

    def _spec(self, name: str) -> FieldSpec:
        sampler = self.task.sampler
        return {**self.reals.specs, **sampler.inputs, **sampler.outputs}[name]

    def _columns(self, name: str) -> int:
        """Return how many images fit side by side: 4 to 10, and even."""
        one = self._displayed(name, self.reals.batch(slice(0, 1), torch.device("cpu"))[name])
        return max(4, min(10, _PAGE // one.shape[3] // 2 * 2))


def _beside(left: Tensor, right: Tensor, titles: tuple[str, str], columns: int) -> Pixels:
    """Lay two equally long lists of images out side by side, as many rows as are full."""
    rows = min(len(left) // columns, _ROWS)
    shape = (rows, columns, *left.shape[1:])
    pairs = torch.cat([half[: rows * columns].reshape(shape) for half in (left, right)], dim=1)
    return captioned(image_grid(pairs.flatten(0, 1), 2 * columns), columns=titles)

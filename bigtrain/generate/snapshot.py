"""A snapshot: the averaged generator's weights and what is needed to rebuild and sample it; no code in it.

It may hold a discriminator too, which further training starts from.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from bigtrain.core.config import Config, nearest
from bigtrain.core.errors import UserError
from bigtrain.core.rng import Draws
from bigtrain.core.state import State
from bigtrain.models import Generator, GeneratorConfig, ImageSpec, StyleGenerator
from data_pipelines.files import atomic_write, write_json

FORMAT = "bigtrain-snapshot/1"
DESCRIPTION = "snapshot.json"
"""The file by which a folder is known to be a snapshot."""

_WEIGHTS = "generator.safetensors"
_DISCRIMINATOR_WEIGHTS = "discriminator.safetensors"
_AT_LEAST = 16
"""Images that are computed at once, a multiple of it: fewer go through other kernels, which round in another way."""
_GENERATOR: TypeAdapter[Any] = TypeAdapter(GeneratorConfig)


class SnapshotError(UserError):
    """A snapshot is missing, damaged, or asked for what it cannot do."""


@dataclass(frozen=True)
class Snapshot:
    """A generator, ready to sample.

    Attributes:
        generator: in evaluation mode.
        class_names: in the order of their indices; empty when unconditional.
        description: the rest of `snapshot.json`: samples seen, dataset, scores.
    """

    generator: Generator
    class_names: tuple[str, ...]
    description: dict[str, Any]

    @property
    def average(self) -> str:
        """Which average of the weights this is, as a protocol names it: `half_life`, or `sigma_rel 0.05`."""
        sigma_rel = self.description.get("sigma_rel")
        return f"sigma_rel {sigma_rel:g}" if sigma_rel else "half_life"

    def class_index(self, name: str) -> int:
        """Return the index of a class given by its name or number.

        Raises:
            SnapshotError: there is no such class.
        """
        if name.isdecimal():
            return int(name)
        if name not in self.class_names:
            raise SnapshotError(f"unknown class {name!r}" + nearest(name, self.class_names))
        return self.class_names.index(name)

    def class_indices(self, names: str) -> list[int]:
        """Return the indices of one class, of several with commas between them, or of `all`.

        Raises:
            SnapshotError: there is no such class.
        """
        if names == "all":
            if not self.generator.image.classes:
                raise SnapshotError("class 'all': this generator has no classes")
            return list(range(self.generator.image.classes))
        found = [names] if names in self.class_names else [name.strip() for name in names.split(",")]
        return [self.class_index(name) for name in found]

    def labels(self, seeds: Sequence[int]) -> list[int]:
        """Return the class that belongs to each seed where none is asked for; 0 for all without classes."""
        drawn = self.draws(torch.tensor(seeds, dtype=torch.int64)).of("label")
        labels: list[int] = drawn.integers(max(self.generator.image.classes, 1), 1).squeeze(1).tolist()
        return labels

    def latents(self, seeds: Sequence[int]) -> Tensor:
        """Return the latent of each seed, shape [N, z_dim]."""
        return self.draws(torch.tensor(seeds, dtype=torch.int64)).of("z").normal(self.generator.z_dim)

    def sample(
        self,
        seeds: Sequence[int],
        labels: Sequence[int] | None = None,
        *,
        truncation: float = 1.0,
        cutoff: int | None = None,
        batch: int = 64,
    ) -> Tensor:
        """Generate one image a seed; an image depends on its own seed and label only.

        Args:
            seeds: 0 <= seed < 2**63.
            labels: a class index for each seed; None draws one from the seed.
            truncation: 1 for the whole distribution.
            cutoff: truncate the first layers only, as many as this; style-based generators can.
            batch: images that are computed at once; they are the same in any, to the bit on a CPU.

        Returns:
            Images around [-1, 1], on the CPU, shape [N, C, H, W].

        Raises:
            SnapshotError: the generator has no such class, or no styles to cut off.
        """
        found = self.batches(seeds, labels, truncation=truncation, cutoff=cutoff, batch=batch)
        return torch.cat([images.float().cpu() for images in found])

    @torch.inference_mode()
    def batches(
        self,
        seeds: Sequence[int],
        labels: Sequence[int] | None = None,
        *,
        truncation: float = 1.0,
        cutoff: int | None = None,
        batch: int = 64,
    ) -> Iterator[Tensor]:
        """Generate likewise, batch after batch, on the generator's device; nobody waits for the device.

        Yields:
            Images around [-1, 1], shape [batch, C, H, W]; the last ones may be fewer.
        """
        if cutoff is not None and not isinstance(self.generator, StyleGenerator):
            raise SnapshotError("truncation cutoff: this generator has no styles, its truncation is for all layers")
        limits = {"truncation": truncation} if cutoff is None else {"truncation": truncation, "cutoff": cutoff}
        classes = self.generator.image.classes
        labels = self.labels(seeds) if labels is None else labels
        wrong = [label for label in labels if not 0 <= label < max(classes, 1)]
        if wrong:
            raise SnapshotError(f"class {wrong[0]}: this generator has {classes} classes, 0 to {classes - 1}")
        device = next(self.generator.parameters()).device
        for start in range(0, len(seeds), batch):
            few = list(seeds[start : start + batch])
            z = self.latents(few)
            label = torch.tensor(labels[start : start + batch], dtype=torch.int64)
            filled = torch.arange(-(-len(few) // _AT_LEAST) * _AT_LEAST) % len(few)
            z, label = z[filled].to(device), label[filled].to(device)
            yield self.generator(z, label, **limits)[: len(few)]

    @staticmethod
    def draws(seeds: Tensor) -> Draws:
        """Return the random numbers that belong to seeds, int64, shape [N]."""
        return Draws(seed=0, index=seeds, stream="sample")


def parse_seeds(text: str) -> list[int]:
    """Read seeds written as `0-63` or `1,5,9-12`.

    Raises:
        SnapshotError: written otherwise.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if not match:
            raise SnapshotError(f"seeds {text!r}: write them like 0-63 or 1,5,9-12")
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    if not seeds:
        raise SnapshotError(f"seeds {text!r}: there are none")
    return seeds


def save_snapshot(
    folder: Path,
    generator: Generator,
    config: Config,
    *,
    class_names: Sequence[str],
    facts: dict[str, Any],
    discriminator: tuple[Config, nn.Module] | None = None,
) -> None:
    """Write a snapshot into `folder`; the description goes last, so that a half-written snapshot is not one.

    Args:
        folder: made if missing.
        generator: with its calibrated sampling statistics.
        config: the generator's own config.
        class_names: empty when unconditional.
        facts: what else to tell of it (samples seen, dataset, scores); JSON values.
        discriminator: with what it was built from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_weights(folder / _WEIGHTS, generator)
    if discriminator is not None:
        _write_weights(folder / _DISCRIMINATOR_WEIGHTS, discriminator[1])
        facts = {"discriminator": discriminator[0].model_dump(mode="json"), **facts}
    write_json(
        folder / DESCRIPTION,
        {
            "format": FORMAT,
            "generator": config.model_dump(mode="json"),
            "image": asdict(generator.image),
            "class_names": list(class_names),
            **facts,
        },
    )


def load_snapshot(folder: str | Path) -> Snapshot:
    """Read a snapshot.

    Raises:
        SnapshotError: missing or damaged.
    """
    folder = Path(folder)
    for name in (DESCRIPTION, _WEIGHTS):
        if not (folder / name).is_file():
            raise SnapshotError(f"{folder}: not a snapshot folder, {name} is missing")
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if description.pop("format") != FORMAT:
            raise SnapshotError(f"{folder}: not a snapshot of format {FORMAT}")
        config = _GENERATOR.validate_json(json.dumps(description.pop("generator")))
        generator: Generator = config.build(ImageSpec(**description.pop("image")))
        generator.load_state_dict(load_file(folder / _WEIGHTS))
        description.pop("discriminator", None)
    except (KeyError, TypeError, json.JSONDecodeError, ValidationError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SnapshotError(f"{folder}: damaged snapshot ({reason})") from None
    return Snapshot(generator.eval().requires_grad_(False), tuple(description.pop("class_names")), description)


def rewrite_snapshot(folder: Path, out: Path, generator: Generator, **facts: Any) -> None:
    """Write a snapshot like the one in `folder` with other weights of its generator, and some facts new or changed.

    Its scores are those of the other weights, and are left out.
    """
    document = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    for name in ("scores", "discriminator"):
        document.pop(name, None)
    out.mkdir(parents=True, exist_ok=True)
    _write_weights(out / _WEIGHTS, generator)
    write_json(out / DESCRIPTION, {**document, **facts})


def read_network(folder: str | Path, part: Literal["generator", "discriminator"]) -> tuple[ImageSpec, State]:
    """Read what further training starts from: what images a network is for, and its weights.

    Raises:
        SnapshotError: missing or damaged.
    """
    folder = Path(folder)
    weights = folder / {"generator": _WEIGHTS, "discriminator": _DISCRIMINATOR_WEIGHTS}[part]
    if not (folder / DESCRIPTION).is_file():
        raise SnapshotError(f"{folder}: not a snapshot folder, {DESCRIPTION} is missing")
    if not weights.is_file():
        raise SnapshotError(f"{folder}: holds no {part}")
    try:
        image = ImageSpec(**json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["image"])
        return image, load_file(weights)
    except (KeyError, TypeError, json.JSONDecodeError, SafetensorError) as error:
        raise SnapshotError(f"{folder}: damaged snapshot ({error!r})") from None


def _write_weights(path: Path, network: nn.Module) -> None:
    with atomic_write(path) as file:
        file.write(save({name: value.contiguous() for name, value in network.state_dict().items()}))

"""A snapshot: averaged networks' weights and what is needed to rebuild and sample them; no code in it.

It may hold networks that are not averaged too, such as discriminators, which further training starts from.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from bigtrain.core import former_names
from bigtrain.core.config import nearest
from bigtrain.core.errors import UserError
from bigtrain.core.rng import Draws
from bigtrain.core.state import State
from bigtrain.engine.sampler import Sampler
from bigtrain.models import Generator, ImageSpec, StyleGenerator
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.tasks import read_sampler
from bigtrain.tasks.samplers import CLASS, SynthesisSampler
from data_pipelines.errors import first_line
from data_pipelines.files import atomic_write, write_json

FORMAT = "bigtrain-snapshot/2"
DESCRIPTION = "snapshot.json"
"""The file by which a folder is known to be a snapshot."""

_AT_LEAST = 16
"""Images that are computed at once, a multiple of it: fewer go through other kernels, which round in another way."""


class SnapshotError(UserError):
    """A snapshot is missing, damaged, or asked for what it cannot do."""


@dataclass(frozen=True)
class Snapshot:
    """Averaged networks, ready to sample.

    Attributes:
        networks: by name, in evaluation mode.
        sampler: makes outputs with them.
        class_names: in the order of their indices; empty when unconditional.
        description: the rest of `snapshot.json`: samples seen, dataset, scores.
    """

    networks: Mapping[str, nn.Module]
    sampler: Sampler
    class_names: tuple[str, ...]
    description: dict[str, Any]

    @property
    def generator(self) -> Generator:
        """The one network that generates from latents.

        Raises:
            SnapshotError: the snapshot is of a task that has none.
        """
        generators = [network for network in self.networks.values() if isinstance(network, Generator)]
        if len(generators) != 1:
            task = self.sampler.describe()["kind"]
            raise SnapshotError(f"this is a snapshot of the task '{task}', which cannot generate from seeds alone")
        return generators[0]

    def to(self, device: torch.device) -> "Snapshot":
        """Move the networks to a device; return the same snapshot."""
        for network in self.networks.values():
            network.to(device)
        return self

    @property
    def classes(self) -> int:
        """Number of classes that can be chosen; 0 without."""
        return len(self.sampler.inputs[CLASS].classes) if CLASS in self.sampler.inputs else 0

    @property
    def average(self) -> str:
        """Which average of the weights this is, as a protocol names it: `half_life`, or `sigma_rel 0.05`."""
        sigma_rel = self.description.get("sigma_rel")
        return f"sigma_rel {sigma_rel:g}" if sigma_rel else "half_life"

    def class_index(self, name: str) -> int:
        """Return the index of a class given by its name, or by its number where no class has that name.

        Raises:
            SnapshotError: there is no such class, or several have the name.
        """
        if self.class_names.count(name) > 1:
            numbers = [str(index) for index, other in enumerate(self.class_names) if other == name]
            raise SnapshotError(f"class {name!r}: the classes {' and '.join(numbers)} have this name; give a number")
        if name in self.class_names:
            return self.class_names.index(name)
        if not name.isdecimal():
            raise SnapshotError(f"unknown class {name!r}" + nearest(name, self.class_names))
        return int(name)

    def class_indices(self, names: str) -> list[int]:
        """Return the indices of one class, of several with commas between them, or of `all`.

        Raises:
            SnapshotError: there is no such class.
        """
        if names == "all":
            if not self.classes:
                raise SnapshotError("class 'all': this generator has no classes")
            return list(range(self.classes))
        found = [names] if names in self.class_names else [name.strip() for name in names.split(",")]
        return [self.class_index(name) for name in found]

    def labels(self, seeds: Sequence[int]) -> list[int]:
        """Return the class that belongs to each seed where none is asked for, as the sampler draws it.

        Without classes, 0 for all.
        """
        drawn = self.sampler.draw_inputs(self.draws(torch.tensor(seeds, dtype=torch.int64))).get(CLASS)
        labels: list[int] = [0] * len(seeds) if drawn is None else drawn.tolist()
        return labels

    def condition(self, numbers: Sequence[float]) -> dict[str, Tensor]:
        """Return the inputs that a vector of numbers is, for one sample: such as the pose of a camera.

        Raises:
            SnapshotError: the generator has no such condition, or one of another length.
        """
        vectors = {name: spec for name, spec in self.sampler.inputs.items() if name != CLASS}
        if not vectors:
            raise SnapshotError("condition: this generator is not conditioned on a vector of numbers")
        ((name, spec),) = vectors.items()
        if spec.shape != (len(numbers),):
            raise SnapshotError(f"condition: '{name}' has {spec.shape[0]} numbers, not {len(numbers)}")
        return {name: torch.tensor(numbers, dtype=torch.float32)[None]}

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
        condition: Sequence[float] | None = None,
    ) -> Tensor:
        """Generate one image a seed; an image depends on its own seed and label only.

        Args:
            seeds: 0 <= seed < 2**63.
            labels: a class index for each seed; None draws one from the seed.
            truncation: 1 for the whole distribution.
            cutoff: truncate the first layers only, as many as this; style-based generators can.
            batch: images that are computed at once; they are the same in any, to the bit on a CPU.
            condition: vector that conditions all images, such as the pose of a camera; None draws one from each seed.

        Returns:
            Images around [-1, 1], on the CPU, shape [N, C, H, W].

        Raises:
            SnapshotError: the generator has no such class or condition, or no styles to cut off.
        """
        found = self.batches(seeds, labels, truncation=truncation, cutoff=cutoff, batch=batch, condition=condition)
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
        condition: Sequence[float] | None = None,
    ) -> Iterator[Tensor]:
        """Generate likewise, batch after batch, on the generator's device, without waiting for the device.

        Yields:
            Images around [-1, 1], shape [batch, C, H, W]; the last ones may be fewer.
        """
        generator = self.generator
        if cutoff is not None and not isinstance(generator, StyleGenerator):
            raise SnapshotError(
                "truncation cutoff: this generator has no styles, so that its truncation is the same for all layers"
            )
        limits = {"truncation": truncation} if cutoff is None else {"truncation": truncation, "cutoff": cutoff}
        classes = self.classes
        given = {} if condition is None else self.condition(condition)
        labels = self.labels(seeds) if labels is None else labels
        wrong = [label for label in labels if not 0 <= label < max(classes, 1)]
        if wrong:
            raise SnapshotError(f"class {wrong[0]}: this generator has {classes} classes, 0 to {classes - 1}")
        device = next(generator.parameters()).device
        for start in range(0, len(seeds), batch):
            few = torch.tensor(seeds[start : start + batch], dtype=torch.int64)
            label = torch.tensor(labels[start : start + batch], dtype=torch.int64)
            filled = torch.arange(-(-len(few) // _AT_LEAST) * _AT_LEAST) % len(few)
            inputs = {name: one.expand(len(filled), -1).to(device) for name, one in given.items()}
            inputs |= {CLASS: label[filled].to(device)} if classes else {}
            made = self.sampler(self.networks, inputs, self.draws(few[filled].to(device)), **limits)
            yield next(iter(made.values()))[: len(few)]

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
        raise SnapshotError(f"seeds {text!r}: the list is empty")
    return seeds


def save_snapshot(
    folder: Path,
    networks: Mapping[str, nn.Module],
    specs: Mapping[str, NetworkSpec],
    sampler: Sampler,
    *,
    averaged: Collection[str],
    class_names: Sequence[str],
    facts: Mapping[str, Any],
) -> None:
    """Write a snapshot into `folder`; the description goes last, so that a half-written snapshot is not one.

    Args:
        folder: made if missing.
        networks: by name; those that are averaged with their statistics for sampling.
        specs: what they were built from, by the same names; others are left out.
        sampler: of the task.
        averaged: names of the networks that outputs are made with; the others are there to be trained further.
        class_names: empty when unconditional.
        facts: what else to tell of it (samples seen, dataset, scores); JSON values.
    """
    files = _name_files({name: specs[name].role for name in networks})
    described = {
        name: {**specs[name].describe(), "averaged": name in averaged, _WEIGHTS: file} for name, file in files.items()
    }
    _write(
        folder,
        networks,
        {"networks": described, "sampler": sampler.describe(), "class_names": list(class_names), **facts},
    )


def load_snapshot(folder: str | Path) -> Snapshot:
    """Read the averaged networks of a snapshot.

    Raises:
        SnapshotError: missing or damaged.
    """
    folder = Path(folder)
    description = _read_description(folder)
    try:
        sampler = read_sampler(description.pop("sampler"))
        networks: dict[str, nn.Module] = {}
        for name, document in description.pop("networks").items():
            spec = NetworkSpec.read(document)
            # Snapshots of before that key tell by the role.
            if not document.get("averaged", "discriminator" not in spec.role):
                continue
            weights = folder / document[_WEIGHTS]
            if not weights.is_file():
                raise SnapshotError(f"{folder}: not a snapshot folder, {weights.name} is missing")
            networks[name] = spec.build()
            networks[name].load_state_dict(load_file(weights))
            networks[name].eval().requires_grad_(False)
        class_names = tuple(description.pop("class_names"))
    except _DAMAGE as error:
        raise _damaged(folder, error) from None
    return Snapshot(networks, sampler, class_names, description)


def rewrite_snapshot(folder: Path, out: Path, networks: Mapping[str, nn.Module], **facts: Any) -> None:
    """Write a snapshot like the one in `folder` with other weights of its networks, and some facts new or changed.

    Its scores, and networks that are not given, belong to the other weights and are left out.
    """
    description = _read_description(folder)
    description.pop("scores", None)
    described = {name: spec for name, spec in description["networks"].items() if name in networks}
    _write(out, networks, {**description, "networks": described, **facts})


def networks_in(folder: str | Path) -> dict[str, NetworkSpec]:
    """Return what the networks of a snapshot are built from, by name, discriminators included.

    Raises:
        SnapshotError: missing or damaged.
    """
    folder = Path(folder)
    try:
        return {name: NetworkSpec.read(spec) for name, spec in _read_description(folder)["networks"].items()}
    except _DAMAGE as error:
        raise _damaged(folder, error) from None


def read_weights(folder: str | Path, network: str) -> State:
    """Read the weights of one network of a snapshot.

    Raises:
        SnapshotError: missing or damaged.
    """
    folder = Path(folder)
    try:
        path = folder / _read_description(folder)["networks"][network][_WEIGHTS]
        if not path.is_file():
            raise SnapshotError(f"{folder}: contains no weights of {network}, {path.name} is missing")
        return load_file(path)
    except _DAMAGE as error:
        raise _damaged(folder, error) from None


_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, ValidationError, SafetensorError, RuntimeError)


def _damaged(folder: Path, error: Exception) -> SnapshotError:
    if isinstance(error, SnapshotError):  # it says more already
        return error
    reason = first_line(error)
    return SnapshotError(f"{folder}: damaged snapshot ({reason})")


def _read_description(folder: Path) -> dict[str, Any]:
    """Return `snapshot.json` without its format, each network with the file of its weights."""
    if not (folder / DESCRIPTION).is_file():
        raise SnapshotError(f"{folder}: not a snapshot folder, {DESCRIPTION} is missing")
    try:
        description: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        found = description.pop("format")
        if found == former_names.SNAPSHOT:
            description = _from_format_1(description)
        elif found != FORMAT:
            raise SnapshotError(f"{folder}: not a snapshot of format {FORMAT}")
        for name, document in description["networks"].items():
            file = document.setdefault(_WEIGHTS, former_names.weights_file(name))
            for what, text, pattern in (("network", name, r"\w+"), ("file of weights", file, r"\w+\.safetensors")):
                if not re.fullmatch(pattern, text):  # it is the name of a file, here and in snapshots made of this one
                    raise SnapshotError(f"{folder}: {text!r} is not a valid name of a {what}")
    except _DAMAGE as error:
        raise _damaged(folder, error) from None
    return description


def _from_format_1(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a snapshot of the former format, which held one generator, as one of this format."""
    image = ImageSpec(**description["image"])
    facts = {key: value for key, value in description.items() if key not in ("image", *former_names.NETWORKS)}
    networks = former_names.networks_of_format_1(description, asdict(image))
    return {**facts, "networks": networks, "sampler": SynthesisSampler.for_images(image).describe()}


_WEIGHTS = "weights"
"""Key of a network's description: the file with its weights."""


def _name_files(roles: Mapping[str, str]) -> dict[str, str]:
    """Return the file of each network's weights: called by its role where it alone has that role, else by its name.

    >>> _name_files({"G": "generator", "D_A": "discriminator", "D_B": "discriminator"})
    {'G': 'generator.safetensors', 'D_A': 'D_A.safetensors', 'D_B': 'D_B.safetensors'}
    """
    counts = Counter(roles.values())
    return {
        name: f"{role if counts[role] == 1 and role not in roles else name}.safetensors" for name, role in roles.items()
    }


def _write(folder: Path, networks: Mapping[str, nn.Module], description: Mapping[str, Any]) -> None:
    """Write weights, then the description, so that a half-written snapshot is not one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, network in networks.items():
        with atomic_write(folder / description["networks"][name][_WEIGHTS]) as file:
            file.write(save({key: value.contiguous() for key, value in network.state_dict().items()}))
    write_json(folder / DESCRIPTION, {"format": FORMAT, **description})

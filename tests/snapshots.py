"""Snapshots of networks that no run has trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from bigtrain.core.config import Config
from bigtrain.generate.snapshot import Snapshot, save_snapshot
from bigtrain.models import Generator
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.tasks.samplers import SynthesisSampler


def snapshot_of(generator: Generator, class_names: Sequence[str] = ()) -> Snapshot:
    """Return a generator as a snapshot whose classes are equally frequent."""
    return Snapshot({"G": generator}, SynthesisSampler.for_images(generator.image), tuple(class_names), {})


def save_generator(
    folder: Path,
    generator: Generator,
    config: Config,
    *,
    class_names: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
    discriminator: tuple[Config, nn.Module] | None = None,
) -> None:
    """Write a snapshot of a generator, and perhaps of the discriminator that it was trained with."""
    networks: dict[str, nn.Module] = {"G": generator}
    specs = {"G": NetworkSpec("generator", "generator", config, (generator.image,))}
    if discriminator is not None:
        specs["D"] = NetworkSpec("discriminator", "discriminator", discriminator[0], (generator.image,))
        networks["D"] = discriminator[1]
    sampler = SynthesisSampler.for_images(generator.image)
    save_snapshot(folder, networks, specs, sampler, averaged=("G",), class_names=class_names, facts=facts or {})

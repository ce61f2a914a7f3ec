"""A probe's file: tensors and what is known of them in one safetensors file, which nothing is run from."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.probes.network import ProbeNetwork
from bigtrain.evaluation.probes.self_supervision import OUTPUTS
from data_pipelines.errors import first_line
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.files import atomic_write

SUFFIX = ".safetensors"
_KEY = "bigtrain-probe"
_LARGEST = {"width": 1024, "levels": 12}
"""What a file may ask for; its tensors must fit what is built."""


@dataclass(frozen=True)
class About:
    """What is known of a probe.

    Attributes:
        field: name of the field that it looks at.
        spec: of that field.
        classes: names of the classes; empty if it was trained without.
        dataset: digest of the set that it was trained on.
        held_out: digest of the set that its accuracy was measured on; `dataset` where a part of that was held out.
        accuracy: share of held-out samples whose class it tells, or that it recognises, see `accuracy_of`.
        trained_on: samples.
        measured_on: samples.
        seed: of the weights and the order.
        epochs: passes over the training samples.
    """

    field: str
    spec: FieldSpec
    classes: tuple[str, ...]
    dataset: str
    held_out: str
    accuracy: float
    trained_on: int
    measured_on: int
    seed: int
    epochs: int


def write_probe(path: Path, network: ProbeNetwork, about: About) -> None:
    """Write a probe; the file appears whole or not at all."""
    facts = {**asdict(about), "spec": about.spec.document(), "width": network.width, "levels": network.levels}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(save(tensors, metadata={_KEY: json.dumps(facts, sort_keys=True)}))


def read_probe(path: Path) -> tuple[ProbeNetwork, About]:
    """Read a probe, in evaluation mode and on the CPU.

    Raises:
        EvaluationError: there is no such file, or it is no probe.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError) as error:
        raise EvaluationError(f"{path}: not a probe file ({first_line(error)})") from None
    if facts is None:
        raise EvaluationError(
            f"{path}: contains tensors, but no probe; bigtrain probe train DATASET --out PROBE makes one"
        )
    try:
        about, sizes = _parse(json.loads(facts))
        network = ProbeNetwork(about.spec, len(about.classes) or OUTPUTS, **sizes)
        network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise EvaluationError(f"{path}: not a probe of this version of bigtrain ({first_line(error)})") from None
    return network.eval().requires_grad_(False), about


def _parse(facts: dict[str, Any]) -> tuple[About, dict[str, int]]:
    """Return what is known of a probe, and the sizes of its network."""
    sizes = {key: int(facts.pop(key)) for key in _LARGEST}
    if any(not 1 <= size <= _LARGEST[key] for key, size in sizes.items()):
        raise ValueError(f"sizes {sizes}")
    spec = FieldSpec.parse(facts.pop("spec"))
    return About(spec=spec, classes=tuple(facts.pop("classes")), **facts), sizes

"""The base class of the tasks' samplers, and the sampler of synthesis."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from bigtrain.augment.derived.base import computed, inverted
from bigtrain.core.errors import UserError
from bigtrain.core.rng import Draws
from bigtrain.engine.sampler import NO_PRIOR, Networks, check_choices
from bigtrain.models import Generator, ImageSpec
from data_pipelines.fields.spec import FieldSpec

CLASS = "class"
"""The field that conditions a network on a class."""


@dataclass(frozen=True)
class TaskSampler(ABC):
    """Base class of samplers, which are written into snapshots as data under their `kind`.

    Attributes:
        choices: the names of what people can choose, see `make`.
        inputs: what must or can be given, by field.
        outputs: what is made, by field.
    """

    kind: ClassVar[str]
    choices: ClassVar[frozenset[str]] = frozenset()
    inputs: Mapping[str, FieldSpec]
    outputs: Mapping[str, FieldSpec]

    @abstractmethod
    def make(self, networks: Networks, inputs: Mapping[str, Tensor], draws: Draws, **choices: Any) -> dict[str, Tensor]:
        """Make outputs, see `Sampler.__call__`; without gradients, and with no choices but those of the class."""

    @torch.no_grad()
    def __call__(
        self, networks: Networks, inputs: Mapping[str, Tensor], draws: Draws, **choices: Any
    ) -> dict[str, Tensor]:
        """See Sampler."""
        check_choices(self, choices)
        return self.make(networks, inputs, draws, **choices)

    @property
    def pairs_with_targets(self) -> frozenset[str]:
        """See Sampler."""
        return frozenset()

    @property
    def drawn(self) -> frozenset[str]:
        """See Sampler."""
        return frozenset()

    @property
    def prior(self) -> str:
        """See Sampler."""
        return NO_PRIOR

    def sources(self, output: str) -> Sequence[str]:
        """See Sampler."""
        return tuple(self.inputs)

    def draw_inputs(self, draws: Draws) -> dict[str, Tensor]:
        """See Sampler."""
        return {}

    def calibrate(self, networks: Networks, draws: Draws) -> None:  # noqa: B027 - most networks need nothing
        """See Sampler."""

    def describe(self) -> dict[str, Any]:
        """See Sampler."""
        return {
            "kind": self.kind,
            "inputs": {name: spec.document() for name, spec in self.inputs.items()},
            "outputs": {name: spec.document() for name, spec in self.outputs.items()},
        }

    @classmethod
    def read(cls, description: Mapping[str, Any]) -> "TaskSampler":
        """Build the sampler from its description, whose `kind` has selected this class."""
        specs = {
            side: {name: FieldSpec.parse(spec) for name, spec in description[side].items()}
            for side in ("inputs", "outputs")
        }
        rest = {name: value for name, value in description.items() if name not in ("kind", "inputs", "outputs")}
        return cls(**specs, **rest)


@dataclass(frozen=True)
class SynthesisSampler(TaskSampler):
    """Samples one output field from latents and, if conditional, a class: for every generator of `models`.

    Attributes:
        class_weights: shares of the classes where none is asked for, those of the dataset; empty without classes. A
            run's scores and everything that is made of its snapshots draw classes so.
        network: name of the generator.
    """

    kind: ClassVar[str] = "synthesis"
    choices: ClassVar[frozenset[str]] = frozenset({"truncation", "cutoff"})

    class_weights: Sequence[float] = field(default=())
    network: str = "G"

    @classmethod
    def for_images(cls, image: ImageSpec) -> "SynthesisSampler":
        """Return the sampler of a generator of images whose classes are equally frequent."""
        classes = tuple(map(str, range(image.classes)))
        return cls(
            inputs={CLASS: FieldSpec("class", (), "int64", classes)} if classes else {},
            outputs={"image": FieldSpec("image", image.shape, "uint8")},
            class_weights=(1.0,) * image.classes,
        )

    def draw_inputs(self, draws: Draws) -> dict[str, Tensor]:
        """Draw class indices by `class_weights`: int64, shape [N]."""
        if CLASS not in self.inputs:
            return {}
        return {CLASS: draws.of("label").categorical(self.class_weights)}

    @property
    def drawn(self) -> frozenset[str]:
        """See Sampler."""
        return frozenset(self.inputs)

    @property
    def prior(self) -> str:
        """See Sampler: `classes even`, or a hash of the classes' shares."""
        if CLASS not in self.inputs:
            return NO_PRIOR
        if len(set(self.class_weights)) == 1:
            return "classes even"
        total = sum(self.class_weights)
        shares = json.dumps([f"{weight / total:.6e}" for weight in self.class_weights])
        return f"classes by shares {hashlib.sha256(shares.encode()).hexdigest()[:12]}"

    def make(self, networks: Networks, inputs: Mapping[str, Tensor], draws: Draws, **choices: Any) -> dict[str, Tensor]:
        """Generate one output a draw.

        Args:
            networks: holds the generator.
            inputs: `class`, int64, shape [N]; without it, as `draw_inputs` says.
            draws: one a sample; the latent is their stream `z`.
            choices: `truncation`, and `cutoff` for style-based generators; see `Generator.forward`.

        Returns:
            The one output, around [-1, 1], shape [N, *shape].
        """
        generator: Any = networks[self.network]
        z = draws.of("z").normal(generator.z_dim)
        (name,) = self.outputs
        return {name: self.output_of(generator(z, self.label_of(inputs, draws), **choices), draws)}

    def label_of(self, inputs: Mapping[str, Tensor], draws: Draws) -> Tensor:
        """Return what conditions the generator, as `Generator.forward` takes it: given, or drawn for each sample."""
        label = {**self.draw_inputs(draws), **inputs}.get(CLASS)
        return torch.zeros_like(draws.index) if label is None else label

    def output_of(self, made: Tensor, draws: Draws) -> Tensor:
        """Return the output that belongs to what the generator made; draws: one a sample."""
        return made

    def calibrate(self, networks: Networks, draws: Draws) -> None:
        """See Sampler: mean style or standing statistics, from latents and classes as they are drawn."""
        generator = networks[self.network]
        assert isinstance(generator, Generator)
        generator.calibrate(draws.of("z").normal(generator.z_dim), self.label_of({}, draws))

    def describe(self) -> dict[str, Any]:
        """See Sampler."""
        return {**super().describe(), "class_weights": list(self.class_weights), "network": self.network}


@dataclass(frozen=True)
class InvertingSampler(SynthesisSampler):
    """Samples a field from which a derived field was computed: a generator makes the derived field, which is inverted.

    Attributes:
        derived: config of the derived field; empty if the output is not derived.
    """

    kind: ClassVar[str] = "synthesis_of_derived"

    derived: Mapping[str, Any] = field(default_factory=dict)

    def output_of(self, made: Tensor, draws: Draws) -> Tensor:
        """See SynthesisSampler: the derived field is inverted."""
        return inverted(made, self.derived, draws) if self.derived else made

    def describe(self) -> dict[str, Any]:
        """See Sampler."""
        return {**super().describe(), "derived": dict(self.derived)}


@dataclass(frozen=True)
class VectorConditionSampler(InvertingSampler):
    """Samples a field given a vector of numbers, such as the pose of a camera, which is its only input.

    Attributes:
        low: least value of each number where none is given; empty if the vector must be given.
        high: greatest values; the distribution between both is uniform.
        condition: config of the derived field that is computed from the vector and conditions the generator; empty if
            the vector itself does.
    """

    kind: ClassVar[str] = "synthesis_given_vectors"

    low: Sequence[float] = ()
    high: Sequence[float] = ()
    condition: Mapping[str, Any] = field(default_factory=dict)

    @property
    def drawn(self) -> frozenset[str]:
        """See Sampler."""
        return frozenset(self.inputs if self.low else ())

    @property
    def prior(self) -> str:
        """See Sampler: the bounds."""
        (name,) = self.inputs
        bounds = ", ".join(f"{low:g} to {high:g}" for low, high in zip(self.low, self.high, strict=True))
        return f"{name} uniform, {bounds}" if self.low else NO_PRIOR

    def draw_inputs(self, draws: Draws) -> dict[str, Tensor]:
        """Draw vectors: float32, shape [N, length].

        Raises:
            UserError: they have no bounds.
        """
        (name,) = self.inputs
        if not self.low:
            raise UserError(f"this network needs the input '{name}': give it, or train with condition.low and .high")
        low, high = (torch.tensor(bound, device=draws.index.device) for bound in (self.low, self.high))
        return {name: low + (high - low) * draws.of("condition").uniform(len(self.low))}

    def label_of(self, inputs: Mapping[str, Tensor], draws: Draws) -> Tensor:
        """See SynthesisSampler."""
        (name,) = self.inputs
        given = inputs[name] if name in inputs else self.draw_inputs(draws)[name]
        return computed(given, self.condition, draws) if self.condition else given

    def describe(self) -> dict[str, Any]:
        """See Sampler."""
        own = {"low": list(self.low), "high": list(self.high), "condition": dict(self.condition)}
        return {**super().describe(), **own}

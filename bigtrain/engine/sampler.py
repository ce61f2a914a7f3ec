"""The interface of samplers, which make the outputs of previews, evaluation, snapshots and `bigtrain sample`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from bigtrain.core.errors import UserError
from bigtrain.core.rng import Draws
from data_pipelines.fields.spec import FieldSpec

Networks = Mapping[str, nn.Module]
"""Networks by name, in evaluation mode."""


NO_PRIOR = "none"
"""The prior of a sampler that draws no inputs."""


class Sampler(Protocol):
    """Turns inputs and random numbers into outputs. It contains settings but no network, and is stored in snapshots.

    Attributes:
        inputs: fields that it takes; those that `draw_inputs` can draw need not be given.
        outputs: fields that it generates.
        choices: names of the settings that users can choose.
    """

    @property
    def choices(self) -> frozenset[str]:
        """See the class."""
        ...

    @property
    def inputs(self) -> Mapping[str, FieldSpec]:
        """See the class."""
        ...

    @property
    def outputs(self) -> Mapping[str, FieldSpec]:
        """See the class."""
        ...

    @property
    def pairs_with_targets(self) -> frozenset[str]:
        """The outputs whose true values are in the data, as the field of the same name of the same sample."""
        ...

    @property
    def drawn(self) -> frozenset[str]:
        """The inputs that `draw_inputs` draws."""
        ...

    @property
    def prior(self) -> str:
        """How `draw_inputs` draws, in words that are equal for two samplers only if they draw in the same way."""
        ...

    def sources(self, output: str) -> Sequence[str]:
        """Return the inputs from which an output is computed."""
        ...

    def draw_inputs(self, draws: Draws) -> dict[str, Tensor]:
        """Draw inputs that are not given: for example a class for each sample, with the frequencies of the dataset.

        Raises:
            UserError: an input must be given, for example an image to translate.
        """
        ...

    def __call__(
        self, networks: Networks, inputs: Mapping[str, Tensor], draws: Draws, **choices: Any
    ) -> dict[str, Tensor]:
        """Generate outputs.

        Args:
            networks: the task's averaged networks, by name.
            inputs: inputs by field, each [N, …], normalised as the kind of the field requires.
            draws: random numbers of each sample.
            choices: settings that users can choose, such as `truncation`.

        Returns:
            Outputs by field, each [N, …], normalised likewise and not clamped: those whose inputs are given.

        Raises:
            UserError: the sampler has no such choice.
        """
        ...

    def calibrate(self, networks: Networks, draws: Draws) -> None:
        """Compute the statistics that sampling from the networks needs, in place; most networks need none."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the sampler as JSON values, for a snapshot; `kind` names the class that reads them."""
        ...


def check_choices(sampler: Sampler, choices: Iterable[str]) -> None:
    """See that a sampler has the choices that are made.

    Args:
        sampler: makes outputs.
        choices: names of choices.

    Raises:
        UserError: it has no choice of one of these names.
    """
    for name in choices:
        if name not in sampler.choices:
            has = f"it has {', '.join(sorted(sampler.choices))}" if sampler.choices else "it has none"
            raise UserError(f"the sampler '{sampler.describe()['kind']}' has no choice '{name}'; {has}")

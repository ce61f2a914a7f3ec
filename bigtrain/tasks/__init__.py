"""The tasks, one file each, and the samplers that snapshots name."""

from collections.abc import Mapping
from typing import Any

from bigtrain.tasks.samplers import InvertingSampler, SynthesisSampler, TaskSampler, VectorConditionSampler
from bigtrain.tasks.stylisation import StylisationSampler
from bigtrain.tasks.translation import TranslationSampler
from bigtrain.tasks.unpaired import UnpairedSampler
from data_pipelines.plugins import Registry


def _read(name: str, found: Any) -> tuple[str, type[TaskSampler]] | None:
    return (found.kind, found) if isinstance(found, type) and issubclass(found, TaskSampler) else None


SAMPLERS: Registry[type[TaskSampler]] = Registry("bigtrain.tasks", "a subclass of TaskSampler", _read)
SAMPLERS.add(
    *(
        (sampler.kind, sampler)
        for sampler in (
            SynthesisSampler,
            InvertingSampler,
            VectorConditionSampler,
            TranslationSampler,
            UnpairedSampler,
            StylisationSampler,
        )
    )
)


def read_sampler(description: Mapping[str, Any]) -> TaskSampler:
    """Return the sampler that a snapshot's description names.

    Raises:
        KeyError, TypeError, ValueError: it is damaged, or of a kind that is not known here.
    """
    return SAMPLERS[description["kind"]].read(description)

"""The tasks, one file each, and the samplers that snapshots name."""

from collections.abc import Mapping
from typing import Any

from bigtrain.tasks.samplers import SynthesisSampler, TaskSampler
from bigtrain.tasks.translation import TranslationSampler
from bigtrain.tasks.unpaired import UnpairedSampler

SAMPLERS: dict[str, type[TaskSampler]] = {
    sampler.kind: sampler for sampler in (SynthesisSampler, TranslationSampler, UnpairedSampler)
}


def read_sampler(description: Mapping[str, Any]) -> TaskSampler:
    """Return the sampler that a snapshot's description names.

    Raises:
        KeyError, TypeError, ValueError: it is damaged, or of a kind that is not known here.
    """
    return SAMPLERS[description["kind"]].read(description)

"""What the outputs of a run's or a snapshot's sampler are made from, and what they are compared with."""

import torch

from bigtrain.core.config import ConfigError
from bigtrain.core.errors import UserError
from bigtrain.engine.reals import Reals
from bigtrain.engine.sampler import Sampler
from bigtrain.evaluation.images.in_memory import MemoryImages
from bigtrain.evaluation.outputs import ScoredOutput
from bigtrain.generate.inputs import RealInputs
from bigtrain.generate.previews import REALS
from bigtrain.run.data import RunData


def given_samples(sampler: Sampler, data: RunData, count: int) -> Reals:
    """Choose real samples for a sampler.

    Args:
        sampler: makes outputs.
        data: where the samples are.
        count: how many at most, where the sampler is given their fields as inputs: held-out ones, if there are any.
            Where it draws its inputs, they are only looked at, and are few.
    """
    if all(spec.kind == "class" for spec in sampler.inputs.values()):
        return data.trained(REALS)
    return data.held_out(max(count, REALS)) or data.trained(max(count, REALS))


def scored_outputs(sampler: Sampler, data: RunData, reals: Reals, device: torch.device) -> list[ScoredOutput]:
    """Return every output of a sampler with what it is made from and compared with.

    Args:
        sampler: makes the outputs.
        data: the references.
        reals: samples whose inputs are given to the sampler, see `given_samples`.
        device: where the inputs are to be.

    Raises:
        UserError: the data have no field of an output's name and shape, or other classes.
    """
    _check_fit(sampler, data)
    inputs, outputs = RealInputs(sampler, reals, device), []
    for name, spec in sampler.outputs.items():
        stream, _, field = name.rpartition(".")
        paired = name in sampler.pairs_with_targets
        outputs.append(
            ScoredOutput(
                name,
                inputs.take,
                data.datasets[stream],
                field,
                (spec.shape[1], spec.shape[2]) if spec.kind == "image" else None,
                data.plans[stream].on_corrupt,
                MemoryImages(reals.fields[name], "the targets") if paired else None,
                sampler.prior,
            )
        )
    return outputs


def _check_fit(sampler: Sampler, data: RunData) -> None:
    for name in sampler.outputs:
        if name in data.derived:
            raise ConfigError(
                f"data.derived.{name}: the output of a network must be a stored field, because it is compared with it; "
                "eval.interval_kimg=0 trains without scores"
            )
    for name, ours in {**sampler.inputs, **sampler.outputs}.items():
        theirs = data.fields[name]
        where = data.datasets[name.rpartition(".")[0]].folder
        if len(ours.classes) != len(theirs.classes):
            raise UserError(f"the networks have {len(ours.classes)} classes, but {where} has {len(theirs.classes)}")
        if ours.shape != theirs.shape:
            one, other = ("x".join(map(str, spec.shape)) for spec in (ours, theirs))
            raise UserError(f"the networks have {name} of {one}, but {where} has {other}")

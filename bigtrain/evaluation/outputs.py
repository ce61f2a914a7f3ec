"""Scores of every output of a sampler: of each as a set and, where the data have its targets, in pairs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from bigtrain.core.crop import Size
from bigtrain.core.quantise import to_uint8
from bigtrain.core.rng import Draws
from bigtrain.distributed.init import Ranks
from bigtrain.engine.sampler import NO_PRIOR
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.evaluator import Evaluator, ScoreConfig
from bigtrain.evaluation.extraction import Stop, never
from bigtrain.evaluation.images import Images
from bigtrain.evaluation.images.generated import GeneratedImages, GenerateImages
from bigtrain.evaluation.pair_evaluator import PairEvaluator
from bigtrain.evaluation.protocol import Sampling, Score
from bigtrain.generate.snapshot import Snapshot
from bigtrain.tasks.samplers import CLASS
from data_pipelines.batches import OnCorrupt
from data_pipelines.faults import FaultLog
from data_pipelines.fields.registry import kind_of
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.read import ShardDataset

TakeInputs = Callable[[str, Draws], Mapping[str, Tensor]]
"""Returns the inputs from which an output is made, one a draw; see `generate.inputs.RealInputs.take`."""


class MakeOutputs(Protocol):
    """Makes outputs of inputs with networks that it has: a `Sampler` without its first argument."""

    def __call__(self, inputs: Mapping[str, Tensor], draws: Draws, **choices: Any) -> dict[str, Tensor]:
        """See Sampler."""
        ...


@dataclass(frozen=True)
class ScoredOutput:
    """An output of a sampler and the real samples that it is compared with.

    Attributes:
        name: of the output.
        take_inputs: returns the inputs from which it is made.
        dataset: the reference.
        field: of the dataset's samples, which outputs are compared with.
        size: height and width that is cut out of the middle of the dataset's images; None for all of them.
        on_corrupt: what to do with damaged reference images.
        targets: the true targets of the samples whose inputs are taken; None where there are none.
        prior: how inputs that are not taken from data are drawn, see `Sampler.prior`.
    """

    name: str
    take_inputs: TakeInputs
    dataset: ShardDataset
    field: str
    size: Size | None
    on_corrupt: OnCorrupt
    targets: Images | None = None
    prior: str = NO_PRIOR

    @property
    def spec(self) -> FieldSpec:
        """Of the field that outputs are compared with."""
        return self.dataset.manifest.fields[self.field]


class OutputEvaluators:
    """Computes the scores of every output of a sampler.

    Where there are several, a score's name and its metric's end in the output: `eval/fid5k/B.image`.

    Args:
        config: which scores.
        outputs: of one sampler.
        ranks: who shares the work.
        faults: where damaged reference images are listed.

    Raises:
        EvaluationError: the metrics cannot be computed so.
    """

    def __init__(
        self, config: ScoreConfig, outputs: Sequence[ScoredOutput], ranks: Ranks, *, faults: FaultLog | None = None
    ) -> None:
        if config.pairs and not any(output.targets for output in outputs):
            raise EvaluationError(f"pairs {', '.join(config.pairs)}: the outputs have no targets to be compared with")
        weights = config.weights_path
        self._samples, self._device = config.samples, ranks.device
        self._evaluators: list[tuple[ScoredOutput, Evaluator, PairEvaluator | None]] = []
        for output in outputs:
            suffix = f"/{output.name}" if len(outputs) > 1 else ""
            sets = Evaluator(
                config,
                output.dataset,
                ranks,
                field=output.field,
                size=output.size,
                on_corrupt=output.on_corrupt,
                faults=faults,
                suffix=suffix,
            )
            pairs = None
            if config.pairs and output.targets is not None:
                pairs = PairEvaluator(
                    config.pairs, output.targets, ranks, weights=weights, batch=config.batch, suffix=suffix
                )
            self._evaluators.append((output, sets, pairs))

    def run(
        self,
        make: MakeOutputs,
        sampling: Sampling,
        *,
        seed: int,
        classes: tuple[str, ...] = (),
        stop: Stop = never,
        **choices: Any,
    ) -> dict[str, Score]:
        """Score the outputs. Collective.

        Args:
            make: makes them.
            sampling: how it does that.
            seed: of the latents and labels; sample i is the same on any number of ranks.
            classes: names of the networks' classes; empty for those of the dataset.
            stop: tells whether this process was asked to stop.
            choices: of the sampler.

        Returns:
            Scores by their full names; the same on every rank.

        Raises:
            Interrupted: a rank was asked to stop.
        """
        scores: dict[str, Score] = {}
        for output, sets, pairs in self._evaluators:
            generate = images_of(make, output.take_inputs, output.name, **choices)
            sampling = replace(sampling, prior=output.prior)
            images = GeneratedImages(
                generate,
                self._samples,
                seed=seed,
                device=self._device,
                classes=classes,
                stored=partial(stored_as, output.spec),
            )
            scores |= sets.run(images, sampling, stop=stop)
            if pairs is not None:
                scores |= pairs.run(generate, sampling, seed=seed)
        return scores

    @property
    def replaced(self) -> int:
        """Damaged reference images that others stand in for, over all ranks. Collective."""
        return sum(sets.replaced for _, sets, _ in self._evaluators)


def stored_as(spec: FieldSpec, made: Tensor) -> Tensor:
    """Return what a generator makes as a dataset would have it: images as pixels of 8 bits."""
    return to_uint8(made) if spec.kind == "image" else kind_of(spec).stored(spec, made)


def images_of(make: MakeOutputs, take_inputs: TakeInputs, output: str, **choices: Any) -> GenerateImages:
    """Return what makes one output of a sampler, and the classes that it is made from (-1: none).

    Args:
        make: makes outputs.
        take_inputs: returns the inputs.
        output: which of the outputs.
        choices: of the sampler.
    """

    def generate(draws: Draws) -> tuple[Tensor, Tensor]:
        inputs = take_inputs(output, draws)
        made = make(inputs, draws, **choices)[output]
        return made, inputs.get(CLASS, torch.full_like(draws.index, -1))

    return generate


def outputs_of(snapshot: Snapshot, device: torch.device, *, precision: str = "fp32") -> MakeOutputs:
    """Return what makes the outputs of a snapshot.

    Args:
        snapshot: its networks are moved to the device.
        device: where to.
        precision: of the networks' forward: fp32 or bf16.
    """
    networks = snapshot.to(device).networks
    half = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")

    def make(inputs: Mapping[str, Tensor], draws: Draws, **choices: Any) -> dict[str, Tensor]:
        with half:
            return snapshot.sampler(networks, inputs, draws, **choices)

    return make

"""Translation: from one field of a sample to another, with a discriminator or without (Isola et al. 2017)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bigtrain.core.batch import Batch
from bigtrain.core.errors import UserError
from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress, Stateful
from bigtrain.engine.averages import Averages
from bigtrain.engine.player import Phase, Player, Rivals, Stats
from bigtrain.engine.sampler import Networks
from bigtrain.engine.strategy import Demands
from bigtrain.engine.task import Fields, TaskConfig, data_of
from bigtrain.models import BaseTwoStageConfig, TranslationDiscriminatorConfig, TranslatorConfig, TwoStageTranslator
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.tasks.losses import discriminator_loss, generator_loss
from bigtrain.tasks.one_generator import OneGeneratorTask
from bigtrain.tasks.samplers import TaskSampler
from bigtrain.tasks.terms import (
    DiscriminatorLossContext,
    DiscriminatorTerm,
    GeneratorLossContext,
    GeneratorTerm,
    LossContext,
    Term,
    demands_of,
    due_terms,
    frozen_of,
)
from bigtrain.tasks.translation_objective import (
    FIRST_STAGE,
    FirstStageConfig,
    Stage,
    TranslationObjectiveConfig,
    joined_phases,
)


class TranslationConfig(TaskConfig):
    """The part of a run's config that this task reads.

    Attributes:
        input: the field that is translated.
        target: the field into which it is translated.
        generator: network that computes the target from the input.
        discriminator: discriminator of the targets; null trains G with its terms alone.
        conditional: whether D sees the input beside the image that it judges.
        objective: the losses of both.
        first_stage: what the first stage of a generator of two stages is trained on besides; null for nothing.
    """

    input: str = "input"
    target: str = "target"
    generator: TranslatorConfig
    discriminator: TranslationDiscriminatorConfig | None = None
    conditional: bool = True
    objective: TranslationObjectiveConfig = TranslationObjectiveConfig()
    first_stage: FirstStageConfig | None = None

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The outputs of G that are trained: its result, and that of its first stage where it has losses of its own."""
        condition = self.input if self.conditional else None
        whole = Stage(self.objective, self.target, condition, judged=self.discriminator is not None)
        if (first := self.first_stage) is None:
            return (whole,)
        judged = first.discriminator is not None
        draft = Stage(first.objective, first.target, first.condition, judged=judged, first=True, alone=False)
        return replace(whole, alone=False), draft

    def networks(self, fields: Fields) -> dict[str, NetworkSpec]:
        """See TaskConfig: `G`, `D` if there is one, and `D_first` if the first stage has one."""
        source, target = data_of(fields, self.input), data_of(fields, self.target)
        networks = {"G": NetworkSpec("generator", "translator", self.generator, (source, target))}
        made = {self.target: target}
        if (first := self.first_stage) is not None:
            made[first.target] = data_of(fields, first.target)
            self._check_first_stage(source, target, made[first.target])
        for stage in self.stages:
            judge = first.discriminator if stage.first and first is not None else self.discriminator
            if judge is not None:
                beside = None if stage.condition is None else data_of(fields, stage.condition)
                data = (made[stage.target], beside)
                judge_spec = NetworkSpec(f"{stage.key}discriminator", "patch_discriminator", judge, data)
                networks[stage.discriminator] = judge_spec
        return networks

    def _check_first_stage(self, source: Any, target: Any, wanted: Any) -> None:
        """Refuse a first stage that the generator does not have, or that makes something else than its target."""
        if not isinstance(self.generator, BaseTwoStageConfig):
            kind = getattr(self.generator, "kind", type(self.generator).__name__)
            raise ValueError(f"{FIRST_STAGE}: the generator '{kind}' has one stage; leave {FIRST_STAGE} out")
        try:
            made = self.generator.first_stage(source, target)
        except ValueError as error:
            raise ValueError(f"{FIRST_STAGE}: {error}") from None
        if made.shape != wanted.shape:
            raise ValueError(
                f"{FIRST_STAGE}.target: the first stage makes {list(made.shape)}, but the field has the shape "
                f"{list(wanted.shape)}"
            )

    def demands(self) -> Demands:
        """See TaskConfig."""
        of_G = [demands_of(stage.objective.terms.of_generator(), key=stage.key) for stage in self.stages]
        of_D = [demands_of(one.objective.terms.of_discriminator(), key=one.key) for one in self.stages if one.judged]
        found = {"G": of_G} | ({"D": of_D} if of_D else {})
        return {
            name: {what: key for part in reversed(parts) for what, key in part.items()} for name, parts in found.items()
        }

    def check_task(self, networks: Mapping[str, Any], *, micro_batch: int) -> None:
        """See TaskConfig."""
        G = networks["G"]
        if isinstance(G, TwoStageTranslator) and G.separate and self.first_stage is None:
            raise ValueError(
                f"generator: the first stage of '{G.kind}' learns from losses of its own alone: add {FIRST_STAGE}, "
                "with its target and its objective"
            )
        for stage in self.stages:
            stage.check(networks, micro_batch)

    def check_weights(self) -> None:
        """See TaskConfig."""
        for stage in self.stages:
            stage.check_weights()

    def build_sampler(self, fields: Fields, class_counts: Mapping[str, Sequence[int]]) -> "TranslationSampler":
        """See TaskConfig."""
        return TranslationSampler(inputs={self.input: fields[self.input]}, outputs={self.target: fields[self.target]})

    def build_task(
        self, fields: Fields, class_counts: Mapping[str, Sequence[int]], *, seed: int, device: torch.device
    ) -> "TranslationTask":
        """See TaskConfig."""
        return TranslationTask(self, fields, device=device)


Make = Callable[[], Sequence[Tensor]]
"""Returns what G makes in a phase: the output of its first stage, if that is trained, then its result."""


class TranslationPlayer(Player, ABC):
    """Base class of the generator and the discriminators.

    Args:
        networks: the player's.
        config: of the task.
        averages: moving averages that steer terms, by the name of the stage.
    """

    looks: ClassVar[type[LossContext]]

    def __init__(
        self, networks: Mapping[str, nn.Module], config: TranslationConfig, averages: Mapping[str, Averages]
    ) -> None:
        super().__init__()
        for name, network in networks.items():
            self.add_module(name, network)
        self.config, self.averages = config, averages
        self.terms = {f"{one.key}{name}": term for one in config.stages for name, term in self.terms_of(one).items()}

    @abstractmethod
    def terms_of(self, stage: Stage) -> Mapping[str, Term]:
        """Return the terms of this player's loss."""

    @abstractmethod
    def loss(self, stage: Stage, values: Mapping[str, float], context: Any) -> tuple[Tensor, Stats]:
        """Return the loss of one stage, the due terms folded in, and what to log of it.

        Args:
            stage: is trained in the phase.
            values: of the phase, as far as they are the stage's.
            context: a `looks`.
        """

    def forward(self, phase: Phase, batch: Batch, rivals: Rivals) -> tuple[Tensor, Stats]:
        """Return the loss of all stages that are trained in the phase."""
        networks: dict[str, Any] = {**self.networks(), **rivals}
        G, source, own = networks["G"], batch[self.config.input], batch.draws.of(phase.name).of("G")

        def one() -> tuple[Tensor, ...]:
            return (G(source, own),)

        make: Make = one if self.config.first_stage is None else cache(lambda: G.both(source, own))
        losses: list[Tensor] = []
        stats: Stats = {}
        for stage in self.config.stages:
            values = stage.values(phase)
            if values:
                loss, found = self.loss(stage, values, self.context(stage, phase, batch, networks, make))
                losses.append(loss)
                stats |= {stage.named(name, phase.player): value for name, value in found.items()}
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0], stats

    def context(self, stage: Stage, phase: Phase, batch: Batch, networks: Mapping[str, Any], make: Make) -> LossContext:
        """Return a micro-batch as the losses and terms of a stage look at it."""
        draws, D = batch.draws.of(phase.name), networks.get(stage.discriminator)
        own = {name: maps for name, maps in self.frozen.items() if name.startswith(f"{FIRST_STAGE}.") == stage.first}
        return self.looks(
            G=networks["G"],
            D=D,
            parts={name.removeprefix(stage.key): maps for name, maps in own.items()},
            label=batch.label(),
            condition=None if stage.condition is None else batch[stage.condition],
            draws=draws.of(stage.name) if stage.first else draws,
            real=batch[stage.target],
            generate=lambda z=None: make()[0 if stage.first else -1],
            show=lambda image, draws: networks[stage.discriminator].draw_view(image, draws),
            averages=self.averages[stage.name],
        )


class TranslationDiscriminators(TranslationPlayer):
    """The discriminators of targets and translations; see TranslationPlayer."""

    looks = DiscriminatorLossContext

    def terms_of(self, stage: Stage) -> Mapping[str, DiscriminatorTerm]:
        """See TranslationPlayer."""
        return stage.objective.terms.of_discriminator()

    def loss(
        self, stage: Stage, values: Mapping[str, float], context: DiscriminatorLossContext
    ) -> tuple[Tensor, Stats]:
        """See TranslationPlayer."""
        due = due_terms(self.terms_of(stage), values)
        return discriminator_loss(context, stage.objective.game, due, weight=values["adversarial"])


class TranslationGenerator(TranslationPlayer):
    """The generator, with adversarial losses and distances to the targets; see TranslationPlayer."""

    looks = GeneratorLossContext

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.frozen = frozen_of(self.terms)

    def terms_of(self, stage: Stage) -> Mapping[str, GeneratorTerm]:
        """See TranslationPlayer."""
        return stage.objective.terms.of_generator()

    def loss(self, stage: Stage, values: Mapping[str, float], context: GeneratorLossContext) -> tuple[Tensor, Stats]:
        """See TranslationPlayer."""
        due = due_terms(self.terms_of(stage), values)
        return generator_loss(context, stage.objective.game, due, weight=values.get("adversarial"))


@dataclass(frozen=True)
class TranslationSampler(TaskSampler):
    """Samples the target field from the input field.

    Attributes:
        network: name of the translator.
    """

    kind: ClassVar[str] = "translation"
    choices: ClassVar[frozenset[str]] = frozenset({"noise"})

    network: str = "G"

    @property
    def pairs_with_targets(self) -> frozenset[str]:
        """See Sampler: the data have the true target of each input."""
        return frozenset(self.outputs)

    def network_of(self, output: str) -> str:
        """Return the name of the network that makes an output."""
        return self.network

    def draw_inputs(self, draws: Draws) -> dict[str, Tensor]:
        """Raise UserError: an image to translate must be given."""
        (name,) = self.inputs
        raise UserError(f"this network needs the input '{name}': give it images, as `bigtrain apply` does")

    def make(self, networks: Networks, inputs: Mapping[str, Tensor], draws: Draws, **choices: Any) -> dict[str, Tensor]:
        """Translate.

        Args:
            networks: holds the translator.
            inputs: the input field, float32 in [-1, 1], shape [N, C, H, W].
            draws: one a sample.
            choices: `noise=True` lets the network draw its own noise, such as dropout.

        Returns:
            The target field, around [-1, 1], shape [N, C, H, W].
        """
        (source,), (target,) = self.inputs, self.outputs
        own = draws.of("G") if choices.get("noise") else None
        return {target: networks[self.network](inputs[source], own)}


class TranslationTask(OneGeneratorTask):
    """D's step, then G's, on the same batch; see `TaskConfig.build_task` for the arguments."""

    def __init__(self, config: TranslationConfig, fields: Fields, *, device: torch.device) -> None:
        self._config, self._first = config, Averages(device)

        def players(networks: Mapping[str, nn.Module], averages: Averages) -> dict[str, Player]:
            steering = {"": averages, FIRST_STAGE: self._first}
            judges = {name: network for name, network in networks.items() if name != "G"}
            found: dict[str, Player] = {"G": TranslationGenerator({"G": networks["G"]}, config, steering)}
            return found | ({"D": TranslationDiscriminators(judges, config, steering)} if judges else {})

        super().__init__(config, config.objective, config.objective.terms, players, fields=fields, device=device)

    def phases(self, progress: Progress) -> Sequence[Phase]:
        """See Task."""
        return joined_phases(self._config.stages, progress)

    def after_step(self, progress: Progress) -> Mapping[str, Tensor]:
        """See Task."""
        self._first.move()
        return super().after_step(progress)

    def stateful(self) -> Mapping[str, Stateful]:
        """See Task."""
        first = {} if self._config.first_stage is None else {f"averages_{FIRST_STAGE}": self._first}
        return {**super().stateful(), **first}

    def judge(self, networks: Rivals, batch: Batch) -> Mapping[str, Tensor]:
        """See OneGeneratorTask."""
        found = {}
        for stage in self._config.stages:
            if stage.judged:
                beside = None if stage.condition is None else batch[stage.condition]
                found[stage.part] = networks[stage.discriminator](batch[stage.target], beside)
        return found

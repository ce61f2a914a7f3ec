"""Translation: from one field of a sample to another, with a discriminator or without (Isola et al. 2017)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from bigtrain.core.batch import Batch
from bigtrain.core.errors import UserError
from bigtrain.core.registry import WithMoreKeys
from bigtrain.core.rng import Draws
from bigtrain.engine.averages import Averages
from bigtrain.engine.player import Phase, Player, Rivals, Stats
from bigtrain.engine.sampler import Networks
from bigtrain.engine.strategy import Demands
from bigtrain.engine.task import Fields, TaskConfig, data_of
from bigtrain.models import TranslationDiscriminatorConfig, TranslatorConfig
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.tasks.adversary import WeightedGameConfig
from bigtrain.tasks.losses import discriminator_loss, generator_loss
from bigtrain.tasks.one_generator import MakePlayer, OneGeneratorTask
from bigtrain.tasks.samplers import TaskSampler
from bigtrain.tasks.terms import (
    OTHER_TERMS,
    DiscriminatorLossContext,
    GeneratorLossContext,
    LossContext,
    NamedTerms,
    Setting,
    demands_of,
    due_terms,
    frozen_of,
)
from bigtrain.tasks.terms.feature_matching import FeatureMatching
from bigtrain.tasks.terms.gradient_penalties import DRAGAN, R1, R2, WGANGP
from bigtrain.tasks.terms.mel import Mel
from bigtrain.tasks.terms.perceptual import Perceptual
from bigtrain.tasks.terms.pixels import L1, L2, Paired

ContextT = TypeVar("ContextT", bound=LossContext)


class TranslationTermsConfig(NamedTerms):
    """The terms added to the game, each under its name: `terms: {l1: {weight: 100}}`."""

    l1: L1 | None = None
    l2: L2 | None = None
    mel: Mel | None = None
    perceptual: Perceptual | None = None
    feature_matching: FeatureMatching | None = None
    r1: R1 | None = None
    r2: R2 | None = None
    wgan_gp: WGANGP | None = None
    dragan: DRAGAN | None = None


class TranslationObjectiveConfig(WeightedGameConfig):
    """The losses of G and D.

    Attributes:
        terms: losses that are added to the adversarial loss.
    """

    terms: Annotated[TranslationTermsConfig, WithMoreKeys(TranslationTermsConfig, OTHER_TERMS)] = (
        TranslationTermsConfig()
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
    """

    input: str = "input"
    target: str = "target"
    generator: TranslatorConfig
    discriminator: TranslationDiscriminatorConfig | None = None
    conditional: bool = True
    objective: TranslationObjectiveConfig = TranslationObjectiveConfig()

    def networks(self, fields: Fields) -> dict[str, NetworkSpec]:
        """See TaskConfig: `G`, and `D` if there is one."""
        source, target = data_of(fields, self.input), data_of(fields, self.target)
        condition = source if self.conditional else None
        networks = {"G": NetworkSpec("generator", "translator", self.generator, (source, target))}
        if self.discriminator is not None:
            D = NetworkSpec("discriminator", "patch_discriminator", self.discriminator, (target, condition))
            networks["D"] = D
        return networks

    def demands(self) -> Demands:
        """See TaskConfig."""
        if self.discriminator is None:
            return {"G": demands_of(self.objective.terms.of_generator())}
        terms = self.objective.terms
        return {"G": demands_of(terms.of_generator()), "D": demands_of(terms.of_discriminator())}

    def check_task(self, networks: Mapping[str, Any], *, micro_batch: int) -> None:
        """See TaskConfig."""
        terms = self.objective.terms.chosen()
        if self.discriminator is None:
            needless = [name for name, term in terms.items() if not isinstance(term, Paired)]
            if needless:
                raise ValueError(f"objective.terms.{needless[0]} needs a discriminator, but discriminator is null")
            if not terms:
                raise ValueError("objective.terms: without a discriminator G needs a term, such as objective.terms.l1")
        self.objective.terms.check(Setting(networks["G"], networks.get("D"), micro_batch, paired=True))
        if self.objective.adversary_from_kimg and not self.objective.terms.of_generator():
            raise ValueError("objective.adversary_from_kimg: until then G needs a term, such as objective.terms.l1")

    def check_weights(self) -> None:
        """See TaskConfig."""
        self.objective.terms.check_weights()

    def build_sampler(self, fields: Fields, class_counts: Mapping[str, Sequence[int]]) -> "TranslationSampler":
        """See TaskConfig."""
        return TranslationSampler(inputs={self.input: fields[self.input]}, outputs={self.target: fields[self.target]})

    def build_task(
        self, fields: Fields, class_counts: Mapping[str, Sequence[int]], *, seed: int, device: torch.device
    ) -> "TranslationTask":
        """See TaskConfig."""
        return TranslationTask(self, fields, device=device)


class TranslationPlayer(Player):
    """Base class of G and D.

    Args:
        config: of the task.
        averages: moving averages that steer terms.
    """

    terms: Mapping[str, Any]

    def __init__(self, config: TranslationConfig, averages: Averages) -> None:
        super().__init__()
        self.config, self.game, self.averages = config, config.objective.game, averages

    def context(self, kind: type[ContextT], phase: Phase, batch: Batch, rivals: Rivals) -> ContextT:
        """Return a micro-batch as the phase's loss and terms look at it."""
        networks: dict[str, Any] = {**self.networks(), **rivals, **self.frozen}
        G, D = networks.pop("G"), networks.pop("D", None)
        draws, source = batch.draws.of(phase.name), batch[self.config.input]
        return kind(
            G=G,
            D=D,
            parts=networks,
            label=batch.label(),
            condition=source if self.config.conditional else None,
            draws=draws,
            real=batch[self.config.target],
            generate=lambda z=None: G(source, draws.of("G")),
            show=lambda image, draws: D.draw_view(image, draws),
            averages=self.averages,
        )


class TranslationDiscriminator(TranslationPlayer):
    """The discriminator of targets and translations; see TranslationPlayer."""

    def __init__(self, network: nn.Module, config: TranslationConfig, averages: Averages) -> None:
        super().__init__(config, averages)
        self.D = network
        self.terms = config.objective.terms.of_discriminator()

    def forward(self, phase: Phase, batch: Batch, rivals: Rivals) -> tuple[Tensor, Stats]:
        """Return D's loss on the batch and its translations, the due terms folded in."""
        due = due_terms(self.terms, phase.values)
        context = self.context(DiscriminatorLossContext, phase, batch, rivals)
        return discriminator_loss(context, self.game, due, weight=self.config.objective.discriminator_weight)


class TranslationGenerator(TranslationPlayer):
    """The generator, with an adversarial loss and distances to the targets; see TranslationPlayer."""

    def __init__(self, network: nn.Module, config: TranslationConfig, averages: Averages) -> None:
        super().__init__(config, averages)
        self.G = network
        self.terms = config.objective.terms.of_generator()
        self.frozen = frozen_of(self.terms)

    def forward(self, phase: Phase, batch: Batch, rivals: Rivals) -> tuple[Tensor, Stats]:
        """Return G's loss on the batch, the due terms folded in."""
        due = due_terms(self.terms, phase.values)
        context = self.context(GeneratorLossContext, phase, batch, rivals)
        return generator_loss(context, self.game, due, weight=phase.values.get("adversarial"))


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
        self._config = config
        players: dict[str, MakePlayer] = {
            "G": lambda network, averages: TranslationGenerator(network, config, averages),
            "D": lambda network, averages: TranslationDiscriminator(network, config, averages),
        }
        super().__init__(config, config.objective, config.objective.terms, players, fields=fields, device=device)

    def judge(self, networks: Rivals, batch: Batch) -> Tensor:
        """See OneGeneratorTask."""
        config = self._config
        logits: Tensor = networks["D"](batch[config.target], batch[config.input] if config.conditional else None)
        return logits

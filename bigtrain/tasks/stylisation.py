"""Style transfer: the content of one image in the style of another one, of any style (Huang & Belongie 2017).

The losses compare images in the activations of the generator's own encoder. A discriminator that tells stylised images
from those of the style's domain may be added to them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

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
from bigtrain.engine.task import Fields, TaskConfig, image_of
from bigtrain.models import TranslationDiscriminatorConfig
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.models.pretrained.weights import WeightsError
from bigtrain.models.styliser import StyliserConfig
from bigtrain.tasks.adversary import WeightedGameConfig
from bigtrain.tasks.losses import discriminator_loss, generator_loss
from bigtrain.tasks.one_generator import OneGeneratorTask
from bigtrain.tasks.samplers import TaskSampler
from bigtrain.tasks.terms import (
    OTHER_TERMS,
    DiscriminatorLossContext,
    DiscriminatorTerm,
    GeneratorTerm,
    NamedTerms,
    Setting,
    demands_of,
    due_terms,
)
from bigtrain.tasks.terms.feature_matching import FeatureMatching
from bigtrain.tasks.terms.gradient_penalties import DRAGAN, R1, R2, WGANGP
from bigtrain.tasks.terms.style import Content, Style, StylisationLossContext


class StylisationTermsConfig(NamedTerms):
    """The losses beside the game, each under its name: `terms: {content: {weight: 1}, style: {weight: 10}}`."""

    content: Content | None = Content()
    style: Style | None = Style()
    feature_matching: FeatureMatching | None = None
    r1: R1 | None = None
    r2: R2 | None = None
    wgan_gp: WGANGP | None = None
    dragan: DRAGAN | None = None


class StylisationObjectiveConfig(WeightedGameConfig):
    """The losses of G and D.

    Attributes:
        terms: losses that are added to the adversarial loss, or stand alone without a discriminator.
    """

    terms: Annotated[StylisationTermsConfig, WithMoreKeys(StylisationTermsConfig, OTHER_TERMS)] = (
        StylisationTermsConfig()
    )


class StylisationConfig(TaskConfig):
    """The part of a run's config that this task reads.

    Attributes:
        content: field of the images whose content is kept.
        style: field of the images whose style is taken; the sample beside it has the content.
        generator: network that stylises; its encoder is not trained.
        discriminator: discriminator of stylised images and of style images; null trains G with its terms alone.
        objective: the losses of both.
    """

    content: str = "content.image"
    style: str = "style.image"
    generator: StyliserConfig
    discriminator: TranslationDiscriminatorConfig | None = None
    objective: StylisationObjectiveConfig = StylisationObjectiveConfig()

    def networks(self, fields: Fields) -> dict[str, NetworkSpec]:
        """See TaskConfig: `G`, and `D` if there is one."""
        content, style = image_of(fields, self.content), image_of(fields, self.style)
        networks = {"G": NetworkSpec("generator", "styliser", self.generator, (content, style))}
        if self.discriminator is not None:
            networks["D"] = NetworkSpec("discriminator", "patch_discriminator", self.discriminator, (style,))
        return networks

    def demands(self) -> Demands:
        """See TaskConfig."""
        terms = self.objective.terms
        demands = {"G": demands_of(terms.of_generator())}
        return demands if self.discriminator is None else {**demands, "D": demands_of(terms.of_discriminator())}

    def check_task(self, networks: Mapping[str, Any], *, micro_batch: int) -> None:
        """See TaskConfig."""
        if self.objective.game.relativistic:
            raise ValueError(
                f"objective.adversarial '{self.objective.adversarial}' compares fakes with reals one by one, but G's "
                "phase has no such pairs here: use least_squares, non_saturating or hinge"
            )
        terms = self.objective.terms
        if self.discriminator is None:
            needless = [name for name, term in terms.chosen().items() if not isinstance(term, Content | Style)]
            if needless:
                raise ValueError(f"objective.terms.{needless[0]} needs a discriminator, but discriminator is null")
        terms.check(Setting(networks["G"], networks.get("D"), micro_batch))
        if (self.discriminator is None or self.objective.adversary_from_kimg) and not terms.of_generator():
            raise ValueError("objective.terms: without a discriminator G needs a term, such as objective.terms.style")

    def check_weights(self) -> None:
        """See TaskConfig: those of the encoder."""
        try:
            self.generator.check_weights()
        except WeightsError as error:
            raise WeightsError(f"generator: {error}") from None
        self.objective.terms.check_weights()

    def build_sampler(self, fields: Fields, class_counts: Mapping[str, Sequence[int]]) -> "StylisationSampler":
        """See TaskConfig."""
        content, style = fields[self.content], fields[self.style]
        return StylisationSampler({self.content: content, self.style: style}, {self.style: style})

    def build_task(
        self, fields: Fields, class_counts: Mapping[str, Sequence[int]], *, seed: int, device: torch.device
    ) -> "StylisationTask":
        """See TaskConfig."""
        return StylisationTask(self, fields, device=device)


class StylisationPlayer(Player):
    """Base class of G and D.

    Args:
        config: of the task.
        averages: moving averages that steer terms.
    """

    def __init__(self, config: StylisationConfig, averages: Averages) -> None:
        super().__init__()
        self.config, self.game, self.averages = config, config.objective.game, averages

    def arguments(self, phase: Phase, batch: Batch, networks: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a loss context that are the same for both players."""
        return {
            "G": networks["G"],
            "D": networks.get("D"),
            "parts": {},
            "label": batch.label(),
            "condition": None,
            "draws": batch.draws.of(phase.name),
            "real": batch[self.config.style],
            "show": lambda image, draws: image,
            "averages": self.averages,
        }


class StylisationDiscriminator(StylisationPlayer):
    """The discriminator of style images and stylised ones; see StylisationPlayer."""

    terms: Mapping[str, DiscriminatorTerm]

    def __init__(self, network: nn.Module, config: StylisationConfig, averages: Averages) -> None:
        super().__init__(config, averages)
        self.D = network
        self.terms = config.objective.terms.of_discriminator()

    def forward(self, phase: Phase, batch: Batch, rivals: Rivals) -> tuple[Tensor, Stats]:
        """Return D's loss on style images and stylised ones, the due terms folded in."""
        networks: dict[str, Any] = {**self.networks(), **rivals}
        content, style = batch[self.config.content], batch[self.config.style]
        context = DiscriminatorLossContext(
            generate=lambda z=None: networks["G"](content, style), **self.arguments(phase, batch, networks)
        )
        due = due_terms(self.terms, phase.values)
        return discriminator_loss(context, self.game, due, weight=phase.values["adversarial"])


class StylisationGenerator(StylisationPlayer):
    """The decoder, with losses of content and style and an adversarial one; see StylisationPlayer."""

    terms: Mapping[str, GeneratorTerm]

    def __init__(self, network: nn.Module, config: StylisationConfig, averages: Averages) -> None:
        super().__init__(config, averages)
        self.G = network
        self.terms = config.objective.terms.of_generator()

    def forward(self, phase: Phase, batch: Batch, rivals: Rivals) -> tuple[Tensor, Stats]:
        """Return G's loss on the batch, the due terms folded in."""
        networks: dict[str, Any] = {**self.networks(), **rivals}
        G = networks["G"]
        with torch.no_grad():  # what is before the decoder is not trained
            style = G.encode(batch[self.config.style])
            wanted = G.combine(G.encode(batch[self.config.content]), style)
        context = StylisationLossContext(
            generate=lambda z=None: G.decode(wanted),
            wanted=wanted,
            style=style,
            encode=G.encode,
            **self.arguments(phase, batch, networks),
        )
        due = due_terms(self.terms, phase.values)
        return generator_loss(context, self.game, due, weight=phase.values.get("adversarial"))


@dataclass(frozen=True)
class StylisationSampler(TaskSampler):
    """Makes images with the content of the first input and the style of the second.

    They are images of the style's domain, and the output has that field's name.
    """

    kind: ClassVar[str] = "stylisation"

    def draw_inputs(self, draws: Draws) -> dict[str, Tensor]:
        """Raise UserError: both images must be given."""
        raise UserError("this network stylises images: give it images and a style, as `bigtrain apply --style` does")

    def make(self, networks: Networks, inputs: Mapping[str, Tensor], draws: Draws, **choices: Any) -> dict[str, Tensor]:
        """Stylise.

        Args:
            networks: `G`.
            inputs: the content [N, C, H, W] and the style [N, C, H', W'], float32 in [-1, 1].
            draws: not used.
            choices: there are none.

        Returns:
            The stylised images, around [-1, 1], shape [N, C, H, W].
        """
        (content, style), (output,) = self.inputs, self.outputs
        return {output: networks["G"](inputs[content], inputs[style])}


class StylisationTask(OneGeneratorTask):
    """D's step, if there is a D, then G's on the same batch; see `TaskConfig.build_task` for the arguments."""

    def __init__(self, config: StylisationConfig, fields: Fields, *, device: torch.device) -> None:
        self._config = config

        def players(networks: Mapping[str, nn.Module], averages: Averages) -> dict[str, StylisationPlayer]:
            made: dict[str, StylisationPlayer] = {"G": StylisationGenerator(networks["G"], config, averages)}
            return made | {
                name: StylisationDiscriminator(D, config, averages) for name, D in networks.items() if name == "D"
            }

        super().__init__(config, config.objective, config.objective.terms, players, fields=fields, device=device)

    def judge(self, networks: Rivals, batch: Batch) -> Mapping[str, Tensor]:
        """See OneGeneratorTask; D judges style images."""
        return {"": networks["D"](batch[self._config.style])}

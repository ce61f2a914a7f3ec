"""What the outputs of a translator are trained on: a target, a discriminator, an adversarial loss and terms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from bigtrain.core.config import Config
from bigtrain.core.errors import UserError
from bigtrain.core.registry import WithMoreKeys
from bigtrain.core.schedules import ConstantSchedule
from bigtrain.core.state import Progress
from bigtrain.engine.player import Phase
from bigtrain.models import TranslationDiscriminatorConfig
from bigtrain.tasks.adversary import WeightedGameConfig
from bigtrain.tasks.terms import OTHER_TERMS, NamedTerms, Setting
from bigtrain.tasks.terms.feature_matching import FeatureMatching
from bigtrain.tasks.terms.gradient_penalties import DRAGAN, R1, R2, WGANGP
from bigtrain.tasks.terms.mel import Mel
from bigtrain.tasks.terms.perceptual import Perceptual
from bigtrain.tasks.terms.pixels import L1, L2, Paired

FIRST_STAGE = "first_stage"
"""The key of a config that trains the first stage of a translator; its numbers and statistics are named after it."""


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


class FirstStageConfig(Config):
    """What the first stage of a translator of two stages is trained on, in the same steps as the second one.

    Attributes:
        target: the field that the first stage should make.
        condition: the field that its discriminator sees beside; null for none.
        discriminator: discriminator of what it makes; null trains it with its terms alone.
        objective: the losses of both.
    """

    target: str
    condition: str | None = None
    discriminator: TranslationDiscriminatorConfig | None = None
    objective: TranslationObjectiveConfig


@dataclass(frozen=True)
class Stage:
    """One output of a translator, and what it is trained on.

    Attributes:
        objective: the losses.
        target: the field that the output should become.
        condition: the field that the discriminator sees beside it; None for none.
        judged: whether there is a discriminator.
        first: whether it is the output of the first of two stages, which is not the translator's result.
        alone: whether it is the only output that is trained.
    """

    objective: TranslationObjectiveConfig
    target: str
    condition: str | None
    judged: bool
    first: bool = False
    alone: bool = True

    @property
    def name(self) -> str:
        """What its statistics are named after; empty for the translator's result."""
        return FIRST_STAGE if self.first else ""

    @property
    def discriminator(self) -> str:
        """The name of its discriminator among the networks."""
        return "D_first" if self.first else "D"

    @property
    def part(self) -> str:
        """What the statistics of its discriminator are named after; empty where there is no other stage."""
        return "" if self.alone else self.discriminator

    @property
    def key(self) -> str:
        """What the keys of its part of the config begin with."""
        return f"{FIRST_STAGE}." if self.first else ""

    def phases(self, progress: Progress) -> list[Phase]:
        """Return the phases of the step that comes, as if there were no other stage."""
        found = self.objective.phases(self.objective.terms, progress, played=self.judged)
        return [
            Phase(phase.name, phase.player, phase.batch, {f"{self.key}{name}": it for name, it in phase.values.items()})
            for phase in found
        ]

    def values(self, phase: Phase) -> dict[str, float]:
        """Return a phase's values that belong to this stage, under the names that they have without another stage."""
        own = {name: value for name, value in phase.values.items() if name.startswith(f"{FIRST_STAGE}.") == self.first}
        return {name.removeprefix(self.key): value for name, value in own.items()}

    def named(self, name: str, player: str) -> str:
        """Return the name of a statistic of a player: what D says goes by D, as health monitors read it."""
        part = self.part if player == "D" or name.startswith("signs/") else self.name
        return f"{name}/{part}" if part else name

    def check(self, networks: Mapping[str, Any], micro_batch: int) -> None:
        """Find out whether the objective fits the networks.

        Raises:
            ValueError: it does not, with the key and the reason.
        """
        try:
            self._check(networks, micro_batch)
        except ValueError as error:
            raise ValueError(f"{self.key}{error}") from None

    def _check(self, networks: Mapping[str, Any], micro_batch: int) -> None:
        named, terms = self.objective.terms, self.objective.terms.chosen()
        if not self.judged:
            needless = [name for name, term in terms.items() if not isinstance(term, Paired)]
            if needless:
                raise ValueError(f"objective.terms.{needless[0]} needs a discriminator, but discriminator is null")
            if all(term.weight == ConstantSchedule(value=0) for term in terms.values()):
                raise ValueError(
                    "objective.terms: without a discriminator G needs a term whose weight is above 0, such as "
                    "objective.terms.l1"
                )
        named.check(Setting(networks["G"], networks.get(self.discriminator), micro_batch, paired=True))
        if self.objective.adversary_from_kimg and not named.of_generator():
            raise ValueError("objective.adversary_from_kimg: until then G needs a term, such as objective.terms.l1")
        if self.first and self.objective.weight_clip is not None:
            raise ValueError("objective.weight_clip: set objective.weight_clip, which limits all discriminators")

    def check_weights(self) -> None:
        """Find out whether the weights of the networks that terms look through are there.

        Raises:
            UserError: they are missing or wrong, with the key.
        """
        try:
            self.objective.terms.check_weights()
        except UserError as error:
            raise type(error)(f"{self.key}{error}") from None


def joined_phases(stages: Sequence[Stage], progress: Progress) -> list[Phase]:
    """Return the phases of a step that trains all stages: D's, if one of them plays, then G's, if one is trained."""
    found = [phase for stage in stages for phase in stage.phases(progress)]
    phases = []
    for player in ("D", "G"):
        own = [phase for phase in found if phase.player == player]
        if own:
            values = {name: value for phase in own for name, value in phase.values.items()}
            phases.append(Phase(own[0].name, player, own[0].batch, values))
    return phases

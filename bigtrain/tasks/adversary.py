"""The adversarial game of a task's objective."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from bigtrain.core.config import Config
from bigtrain.core.schedules import ConstantSchedule, Schedule
from bigtrain.core.state import Progress
from bigtrain.engine.player import Phase
from bigtrain.objectives.adversarial import GAMES, Game, GameName
from bigtrain.tasks.terms import NamedTerms, due_weights

Share = Annotated[float, Field(ge=0, le=1)]


class GameConfig(Config):
    """The adversarial loss between G and D.

    Attributes:
        adversarial: adversarial loss, see docs/reference/objectives.md.
        real_target: target of D for reals; below 1 it is one-sided label smoothing (Salimans et al. 2016).
        fake_target: target of D for fakes; above 0 it is two-sided label smoothing.
        weight_clip: maximum absolute value of D's weights (Arjovsky et al. 2017).
    """

    adversarial: GameName = "non_saturating"
    real_target: Share = 1.0
    fake_target: Share = 0.0
    weight_clip: PositiveFloat | None = None

    @model_validator(mode="after")
    def _targets_fit(self) -> "GameConfig":
        smoothed = (self.real_target, self.fake_target) != (1.0, 0.0)
        if smoothed and not GAMES[self.adversarial].takes_targets:
            raise ValueError(f"real_target and fake_target: '{self.adversarial}' has no targets that could be smoothed")
        if self.real_target <= self.fake_target:
            raise ValueError(f"real_target {self.real_target} must be above fake_target {self.fake_target}")
        return self

    @property
    def game(self) -> Game:
        """The game, with its targets."""
        game = GAMES[self.adversarial]
        return game.with_targets(self.real_target, self.fake_target) if game.takes_targets else game


class WeightedGameConfig(GameConfig):
    """The adversarial loss of tasks that also have losses without a discriminator.

    Attributes:
        adversarial_weight: weight of the adversarial loss in the loss of G. `least_squares` has a factor of 1/2 for
            both players (Mao et al. 2017), which pix2pix and CycleGAN have for D only: use 2 to reproduce them.
        discriminator_weight: weight of the adversarial loss in the loss of D; the published pix2pix and CycleGAN halve
            it if the adversarial loss has no factor of its own, so that D learns more slowly.
        adversary_from_kimg: thousands of samples after which the adversarial loss is used; before, G is trained with
            its other terms alone.
    """

    adversarial_weight: Schedule = ConstantSchedule(value=1.0)
    discriminator_weight: PositiveFloat = 1.0
    adversary_from_kimg: NonNegativeFloat = 0.0

    def phases(self, terms: NamedTerms, progress: Progress, *, played: bool = True) -> list[Phase]:
        """Return the phases of the step that comes: D's, then G's on the same batch; G's alone before the game begins.

        Args:
            terms: of the objective.
            progress: where the run is.
            played: whether there is a discriminator at all.
        """
        generator = due_weights("G", terms.of_generator(), progress)
        if not played or progress.samples_seen < 1000 * self.adversary_from_kimg:
            return [Phase("g_main", player="G", values=generator)] if generator else []  # none is due
        adversarial = self.adversarial_weight.value_at(progress.samples_seen, progress.total)
        discriminator = due_weights("D", terms.of_discriminator(), progress)
        return [
            Phase("d_main", player="D", values={"adversarial": self.discriminator_weight, **discriminator}),
            Phase("g_main", player="G", values={"adversarial": adversarial, **generator}),
        ]

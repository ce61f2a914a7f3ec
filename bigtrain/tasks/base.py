"""What a task is: the players, the phases of a step, and what to sample."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor

from bigtrain.core.config import Config
from bigtrain.core.rng import Draws
from bigtrain.core.schedules import OptimizerConfig
from bigtrain.core.state import Progress, Stateful
from bigtrain.engine.player import Phase, Player, Rivals
from bigtrain.models import Generator


class Task(ABC):
    """The objective of a run. The engine knows no task; a task knows no ranks.

    Attributes:
        players: by name.
        optimizers: each player's.
        batches_per_step: fresh global batches that the phases of a step read between them.
        group: neighbours in a batch that a network compares with each other, see `Batch.micro_batches`.
        averaged: (player, network) whose exponential moving average is evaluated, previewed and exported.
        generator_config: what that network is built from.
    """

    players: Mapping[str, Player]
    optimizers: Mapping[str, OptimizerConfig]
    batches_per_step: int = 1
    group: int = 1
    averaged: tuple[str, str]
    generator_config: Config

    @abstractmethod
    def phases(self, progress: Progress) -> Sequence[Phase]:
        """Return the phases of the step that comes, in order."""

    def generator(self) -> Generator:
        """Return the live network that `averaged` names."""
        player, network = self.averaged
        generator = self.players[player].networks()[network]
        assert isinstance(generator, Generator)
        return generator

    @abstractmethod
    def labels(self, draws: Draws) -> Tensor:
        """Draw a class index a sample, with the shares that the data have: int64, shape [N]."""

    @abstractmethod
    def generate(
        self, generator: Generator, draws: Draws, *, label: Tensor | None = None, truncation: float = 1.0
    ) -> Tensor:
        """Generate one image a draw, with labels as the data have them unless given: [N, C, H, W] around [-1, 1]."""

    @abstractmethod
    def calibrate(self, generator: Generator) -> None:
        """Set the statistics that sampling from `generator` needs; the same on every rank."""

    def before_step(self, progress: Progress) -> None:  # noqa: B027 - most networks are whole from the start
        """Bring the networks to where the training is."""

    def judge(self, networks: Rivals, image: Tensor, label: Tensor) -> Tensor | None:
        """Return the logits [N] that tell real images from fakes, changing nothing; None where nothing judges so.

        Args:
            networks: of all players, by name.
            image: in [-1, 1], shape [N, C, H, W].
            label: class indices, shape [N].
        """
        return None

    def shown(self, real: Tensor, draws: Draws, progress: Progress) -> Tensor:
        """Return real images as D is shown them now: augmented, where they are.

        Args:
            real: in [-1, 1], shape [N, C, H, W].
            draws: one a sample.
            progress: where the run is.
        """
        return real

    def after_step(self, progress: Progress) -> Mapping[str, Tensor]:
        """Adapt what is adapted during training, and return what to log of it. Collective."""
        return {}

    def stateful(self) -> Mapping[str, Stateful]:
        """Return the objects, besides players and optimizers, that must survive a crash."""
        return {}

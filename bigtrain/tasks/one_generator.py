"""Tasks of one generator, with a discriminator or without: what translation and style transfer have in common."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from bigtrain.core.batch import Batch
from bigtrain.core.state import Progress, Stateful
from bigtrain.engine.averages import Averages
from bigtrain.engine.player import Phase, Player, Rivals
from bigtrain.engine.task import Fields, Task, TaskConfig
from bigtrain.tasks.adversary import WeightedGameConfig
from bigtrain.tasks.losses import buffers_restored
from bigtrain.tasks.terms import NamedTerms

MakePlayers = Callable[[Mapping[str, nn.Module], Averages], Mapping[str, Player]]
"""Makes the players of all networks, by name, and the moving averages that steer terms."""


class OneGeneratorTask(Task):
    """D's step, if there is a D, then G's on the same batch.

    Args:
        config: of the task.
        objective: the losses of both.
        terms: of the objective.
        players: makes `G` and, if there is a discriminator, `D`. The network that is averaged is `G`.
        fields: of the samples.
        device: where the networks live.
    """

    def __init__(
        self,
        config: TaskConfig,
        objective: WeightedGameConfig,
        terms: NamedTerms,
        players: MakePlayers,
        *,
        fields: Fields,
        device: torch.device,
    ) -> None:
        self._objective, self._terms, self._averages = objective, terms, Averages(device)
        self.specs = config.networks(fields)
        networks = {name: spec.build_on(device) for name, spec in self.specs.items()}
        self.players = players(networks, self._averages)
        self.optimizers = dict(config.optim)
        if "D" in self.players:
            self.optimizers["D"] = config.optim["D"].model_copy(update={"weight_limit": objective.weight_clip})
        self.averaged = {"G": networks["G"]}
        self.sampler = config.build_sampler(fields, {})

    @abstractmethod
    def judge(self, networks: Rivals, batch: Batch) -> Mapping[str, Tensor]:
        """Return the logits of real samples, shape [N, ...], by the names of `Task.logits_of`."""

    def phases(self, progress: Progress) -> Sequence[Phase]:
        """See Task."""
        return self._objective.phases(self._terms, progress, played="D" in self.players)

    def after_step(self, progress: Progress) -> Mapping[str, Tensor]:
        """See Task."""
        self._averages.move()
        return {}

    def stateful(self) -> Mapping[str, Stateful]:
        """See Task."""
        return {"averages": self._averages}

    @torch.no_grad()
    def logits_of(self, networks: Rivals, batch: Batch) -> Mapping[str, Tensor]:
        """See Task: the mean over all patches; statistics are put back."""
        if "D" not in self.players:
            return {}
        with ExitStack() as restored:
            for name in self.players["D"].networks():
                restored.enter_context(buffers_restored(networks[name]))
            return {name: logits.flatten(1).mean(1) for name, logits in self.judge(networks, batch).items()}

"""Unpaired translation between two domains, each a stream of its own (CycleGAN: Zhu et al. 2017)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from bigtrain.core.batch import Batch
from bigtrain.core.errors import UserError
from bigtrain.core.rng import Draws
from bigtrain.core.schedules import ConstantSchedule, Schedule
from bigtrain.core.state import Progress, State, Stateful
from bigtrain.distributed.collectives import from_all_ranks
from bigtrain.engine.player import Phase, Player, Rivals, Stats
from bigtrain.engine.sampler import Networks
from bigtrain.engine.strategy import Demands
from bigtrain.engine.task import Fields, Task, TaskConfig, image_of
from bigtrain.models import TranslationDiscriminatorConfig, TranslatorConfig
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.objectives.image_pool import ImagePool
from bigtrain.tasks.adversary import GameConfig
from bigtrain.tasks.losses import buffers_restored, signs
from bigtrain.tasks.samplers import TaskSampler


class UnpairedObjectiveConfig(GameConfig):
    """The objective of the two generators and the two discriminators.

    Attributes:
        cycle: weight of E |G_BA(G_AB(a)) - a| + E |G_AB(G_BA(b)) - b| (Zhu et al. 2017, equation 2).
        identity: weight of E |G_AB(b) - b| + E |G_BA(a) - a| (section 5.2); the published 0.5 is relative to a cycle
            weight of 10, and is 5 here.
        pool: generated images of each domain that are kept, of which D sees some in place of new ones (section 4); 0
            shows the new ones.
    """

    cycle: Schedule = ConstantSchedule(value=10.0)
    identity: Schedule = ConstantSchedule(value=0.0)
    pool: NonNegativeInt = 50


class UnpairedConfig(TaskConfig):
    """The part of a run's config that this task reads.

    Attributes:
        a: the field of one domain.
        b: the field of the other.
        global_batch: pairs of images of a step over all ranks.
        generator: of both directions.
        discriminator: of both domains.
    """

    a: str = "A.image"
    b: str = "B.image"
    global_batch: PositiveInt
    generator: TranslatorConfig
    discriminator: TranslationDiscriminatorConfig
    objective: UnpairedObjectiveConfig = UnpairedObjectiveConfig()

    def networks(self, fields: Fields) -> dict[str, NetworkSpec]:
        """See TaskConfig: `G_AB`, `G_BA`, `D_A` and `D_B`, each D for the images of its domain."""
        a, b = image_of(fields, self.a), image_of(fields, self.b)
        return {
            "G_AB": NetworkSpec("generator", "translator", self.generator, (a, b)),
            "G_BA": NetworkSpec("generator", "translator", self.generator, (b, a)),
            "D_A": NetworkSpec("discriminator", "patch_discriminator", self.discriminator, (a,)),
            "D_B": NetworkSpec("discriminator", "patch_discriminator", self.discriminator, (b,)),
        }

    def demands(self) -> Demands:
        """See TaskConfig: nothing special."""
        return {"G": {}, "D": {}}

    def check_task(self, networks: Mapping[str, Any], *, micro_batch: int) -> None:
        """See TaskConfig."""
        if self.objective.game.relativistic:
            raise ValueError(
                f"objective.adversarial '{self.objective.adversarial}' compares fakes with reals one by one, and G's "
                "phase has no such pairs here: use least_squares, non_saturating or hinge"
            )

    def build_sampler(self, fields: Fields, class_counts: Mapping[str, Sequence[int]]) -> "UnpairedSampler":
        """See TaskConfig."""
        a, b = fields[self.a], fields[self.b]
        return UnpairedSampler(inputs={self.a: a, self.b: b}, outputs={self.b: b, self.a: a})

    def build_task(
        self, fields: Fields, class_counts: Mapping[str, Sequence[int]], *, seed: int, device: torch.device
    ) -> "UnpairedTask":
        """See TaskConfig."""
        return UnpairedTask(self, fields, device=device)


class ImagePools:
    """A history of generated images that is the same on any number of ranks.

    Sample i of a global batch exchanges images with the samples i of other batches, wherever they were computed: each
    place in the batch has a pool of its own, and together they hold as many images as one pool would. With a batch of
    one it is the published pool.

    Args:
        capacity: images of all pools together, at least; 0 for no history.
        batch: places in a global batch.
    """

    def __init__(self, capacity: int, batch: int) -> None:
        self._each, self._batch = -(-capacity // batch), batch
        self._pools: dict[int, ImagePool] = {}
        self._own: set[int] = set()  # the places that this rank computes; others' pools are as they were loaded

    def exchange(self, images: Tensor, draws: Draws) -> Tensor:
        """Return each image, or an older one in its place.

        Args:
            images: detached, shape [N, C, H, W].
            draws: one an image.
        """
        if not self._each:
            return images
        uniform, index = draws.of("swap").uniform(1)[:, 0], draws.of("place").integers(self._each, 1)[:, 0]
        returned = []
        for row, place in enumerate((draws.index % self._batch).tolist()):
            pool = self._pools.setdefault(place, ImagePool(self._each))
            self._own.add(place)
            one = slice(row, row + 1)
            returned.append(pool.exchange(images[one], uniform[one], index[one]))
        return torch.cat(returned)

    def state_dict(self) -> State:
        """See Stateful: the pools of all ranks, by their place in the batch."""
        found = {place: _on_host(pool.state_dict()) for place, pool in self._pools.items()}
        own = from_all_ranks({place: found[place] for place in self._own})
        latest = found | {place: state for rank in own for place, state in rank.items()}
        return {str(place): latest[place] for place in sorted(latest)}

    def load_state_dict(self, state: State) -> None:
        """See Stateful: every rank takes all pools, for it may get other places than before."""
        self._pools, self._own = {}, set()
        for place, one in state.items():
            self._pools[int(place)] = pool = ImagePool(self._each)
            pool.load_state_dict(one)


def _on_host(state: State) -> State:
    return {name: None if images is None else images.cpu() for name, images in state.items()}


class UnpairedDiscriminators(Player):
    """D_A and D_B, each of which tells its domain's images from translations into it.

    Args:
        networks: `D_A` and `D_B`.
        config: of the task.
        pools: histories of generated images, by domain.
    """

    def __init__(
        self, networks: Mapping[str, nn.Module], config: UnpairedConfig, pools: Mapping[str, ImagePools]
    ) -> None:
        super().__init__()
        self.D_A, self.D_B = networks["D_A"], networks["D_B"]
        self.config, self.game, self._pools = config, config.objective.game, pools

    def forward(self, phase: Phase, batch: Batch, rivals: Rivals) -> tuple[Tensor, Stats]:
        """Return the discriminators' loss on the batch and its translations, or older ones."""
        draws, weight = batch.draws.of(phase.name), self.config.objective.discriminator_weight
        a, b = batch[self.config.a], batch[self.config.b]
        loss = torch.zeros((), device=a.device)
        stats: Stats = {}
        for domain, name, D, real, source, G in (
            ("A", "D_A", self.D_A, a, b, "G_BA"),
            ("B", "D_B", self.D_B, b, a, "G_AB"),
        ):
            with torch.no_grad():
                fake = rivals[G](source, draws.of(G))
            fake = self._pools[domain].exchange(fake, draws.of(f"pool/{domain}"))
            real_logits, fake_logits = D(real), D(fake)
            part = self.game.discriminator(real_logits, fake_logits).mean()
            loss = loss + weight * part
            stats |= {
                f"loss/d_main/{name}": part.detach(),
                f"logits/real_mean/{name}": real_logits.detach().mean(),
                f"logits/fake_mean/{name}": fake_logits.detach().mean(),
                f"signs/real/{name}": signs(real_logits, self.game).mean(),
            }
        return loss, {**stats, "loss/d_main": loss.detach()}


class UnpairedGenerators(Player):
    """G_AB and G_BA, with adversarial, cycle and identity losses.

    Args:
        networks: `G_AB` and `G_BA`.
        config: of the task.
    """

    def __init__(self, networks: Mapping[str, nn.Module], config: UnpairedConfig) -> None:
        super().__init__()
        self.G_AB, self.G_BA = networks["G_AB"], networks["G_BA"]
        self.config, self.game = config, config.objective.game

    def forward(self, phase: Phase, batch: Batch, rivals: Rivals) -> tuple[Tensor, Stats]:
        """Return the generators' loss on the batch (Zhu et al. 2017, equation 3)."""
        draws = batch.draws.of(phase.name)
        a, b = batch[self.config.a], batch[self.config.b]
        loss = torch.zeros((), device=a.device)
        stats: Stats = {}
        ways = (("A", a, self.G_AB, self.G_BA, "D_B"), ("B", b, self.G_BA, self.G_AB, "D_A"))
        for domain, real, there, back, D in ways:
            fake = there(real, draws.of(f"{domain}/there"))
            if "adversarial" in phase.values:
                logits = rivals[D](fake)
                adversarial = self.game.generator(logits).mean()
                loss = loss + phase.values["adversarial"] * adversarial
                stats[f"loss/g_main/{D}"] = adversarial.detach()
                stats[f"signs/fake/{D}"] = signs(logits, self.game).mean()
            cycle = F.l1_loss(back(fake, draws.of(f"{domain}/back")), real)
            loss = loss + phase.values["cycle"] * cycle
            stats[f"reg/cycle_{domain}"] = cycle.detach()
            if phase.values["identity"]:
                same = F.l1_loss(back(real, draws.of(f"{domain}/identity")), real)
                loss = loss + phase.values["identity"] * same
                stats[f"reg/identity_{domain}"] = same.detach()
        return loss, {**stats, "loss/g_main": loss.detach()}


@dataclass(frozen=True)
class UnpairedSampler(TaskSampler):
    """Each domain's field to the other's: `outputs[B]` is made of `inputs[A]` by `G_AB`, and the other way round."""

    kind: ClassVar[str] = "unpaired"
    choices: ClassVar[frozenset[str]] = frozenset({"noise"})

    def sources(self, output: str) -> Sequence[str]:
        """See Sampler: the other domain."""
        return [name for name in self.inputs if name != output]

    def draw_inputs(self, draws: Draws) -> dict[str, Tensor]:
        """Raise UserError: images to translate must be given."""
        raise UserError(
            f"this network translates {' and '.join(self.inputs)}: give it images, as `bigtrain apply` does"
        )

    def make(self, networks: Networks, inputs: Mapping[str, Tensor], draws: Draws, **choices: Any) -> dict[str, Tensor]:
        """Translate what is given into the other domain.

        Args:
            networks: `G_AB` and `G_BA`.
            inputs: one of the fields or both, float32 in [-1, 1], shape [N, C, H, W].
            draws: one a sample.
            choices: `noise=True` lets the networks draw their own noise.

        Returns:
            The outputs whose inputs are given, around [-1, 1], shape [N, C, H, W].
        """
        (a, b), made = self.inputs, {}
        for source, target, G in ((a, b, "G_AB"), (b, a, "G_BA")):
            if source in inputs:
                own = draws.of(G) if choices.get("noise") else None
                made[target] = networks[G](inputs[source], own)
        return made


class UnpairedTask(Task):
    """The discriminators' step, then the generators', on the same batch; see `TaskConfig.build_task`."""

    def __init__(self, config: UnpairedConfig, fields: Fields, *, device: torch.device) -> None:
        self._config = config
        self.specs = config.networks(fields)
        networks = {name: spec.build_on(device) for name, spec in self.specs.items()}
        self._pools = {domain: ImagePools(config.objective.pool, config.global_batch) for domain in ("A", "B")}
        self.players = {
            "D": UnpairedDiscriminators(networks, config, self._pools),
            "G": UnpairedGenerators(networks, config),
        }
        limit = config.objective.weight_clip
        self.optimizers = {"G": config.optim["G"], "D": config.optim["D"].model_copy(update={"weight_limit": limit})}
        self.averaged = {name: networks[name] for name in ("G_AB", "G_BA")}
        self.sampler = config.build_sampler(fields, {})

    def phases(self, progress: Progress) -> Sequence[Phase]:
        """See Task: the discriminators' first, once the game has begun."""
        objective, now = self._config.objective, (progress.samples_seen, progress.total)
        values = {"cycle": objective.cycle.value_at(*now), "identity": objective.identity.value_at(*now)}
        if not objective.begun(progress):
            return [Phase("g_main", player="G", values=values)]
        values["adversarial"] = objective.adversarial_weight.value_at(*now)
        return [Phase("d_main", player="D"), Phase("g_main", player="G", values=values)]

    @torch.no_grad()
    def logits_of(self, networks: Rivals, batch: Batch) -> Mapping[str, Tensor]:
        """See Task: the mean over all patches, of each domain's images; statistics are put back."""
        found = {}
        for name, field in (("D_A", self._config.a), ("D_B", self._config.b)):
            with buffers_restored(networks[name]):
                found[name] = networks[name](batch[field]).flatten(1).mean(1)
        return found

    def stateful(self) -> Mapping[str, Stateful]:
        """See Task: the histories of generated images."""
        return {f"pool_{domain}": pools for domain, pools in self._pools.items()}

"""Unpaired translation between two domains, each a stream of its own.

Both ways at once (CycleGAN: Zhu et al. 2017), or one of them (CUT: Park et al. 2020).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import NonNegativeInt
from torch import Tensor, nn

from bigtrain.core.batch import Batch
from bigtrain.core.errors import UserError
from bigtrain.core.registry import WithMoreKeys
from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress, Stateful
from bigtrain.engine.averages import Averages
from bigtrain.engine.player import Phase, Player, Rivals, Stats
from bigtrain.engine.sampler import Networks
from bigtrain.engine.strategy import Demands
from bigtrain.engine.task import Fields, Task, TaskConfig, image_of
from bigtrain.models import TranslationDiscriminatorConfig, TranslatorConfig
from bigtrain.models.network_spec import NetworkSpec
from bigtrain.tasks.adversary import WeightedGameConfig
from bigtrain.tasks.image_pools import ImagePools
from bigtrain.tasks.losses import buffers_restored, discriminator_loss, generator_loss
from bigtrain.tasks.samplers import TaskSampler
from bigtrain.tasks.terms import (
    OTHER_TERMS,
    DiscriminatorLossContext,
    Due,
    GeneratorTerm,
    NamedTerms,
    Setting,
    Term,
    demands_of,
    due_terms,
    frozen_of,
)
from bigtrain.tasks.terms.cycle import Cycle, Identity, UnpairedLossContext, mirror
from bigtrain.tasks.terms.feature_matching import FeatureMatching
from bigtrain.tasks.terms.gradient_penalties import DRAGAN, R1, R2, WGANGP
from bigtrain.tasks.terms.patch_nce import PatchNCE


@dataclass(frozen=True)
class Way:
    """One direction of translation.

    Attributes:
        G: name of its generator.
        back: name of the other one.
        D: name of the discriminator of what it makes.
        forth: whether it goes from the first domain to the second.
    """

    G: str
    back: str
    D: str
    forth: bool

    def source(self, config: "UnpairedConfig") -> str:
        """Return the field that is translated."""
        return config.a if self.forth else config.b

    def target(self, config: "UnpairedConfig") -> str:
        """Return the field of the domain that it is translated to."""
        return config.b if self.forth else config.a


WAYS = (Way("G_AB", "G_BA", "D_B", forth=True), Way("G_BA", "G_AB", "D_A", forth=False))


class UnpairedTermsConfig(NamedTerms):
    """The terms added to the games of each direction: `terms: {cycle: {weight: 10}, identity: {weight: 5}}`."""

    cycle: Cycle | None = Cycle()
    identity: Identity | None = None
    patch_nce: PatchNCE | None = None
    feature_matching: FeatureMatching | None = None
    r1: R1 | None = None
    r2: R2 | None = None
    wgan_gp: WGANGP | None = None
    dragan: DRAGAN | None = None


class UnpairedObjectiveConfig(WeightedGameConfig):
    """The losses of the generators and the discriminators.

    Attributes:
        terms: losses that are added to the adversarial losses.
        pool: number of generated images of each domain that are stored; D sees some of them in place of new ones
            (section 4); 0 for new ones only.
        flip_equivariance: whether G is given a mirrored image for half of the samples, and `patch_nce` mirrors the
            activations of what G makes of it back before it compares them with the image's own (FastCUT: Park et al.
            2020, appendix C).
    """

    terms: Annotated[UnpairedTermsConfig, WithMoreKeys(UnpairedTermsConfig, OTHER_TERMS)] = UnpairedTermsConfig()
    pool: NonNegativeInt = 50
    flip_equivariance: bool = False


class UnpairedConfig(TaskConfig):
    """The part of a run's config that this task reads.

    Attributes:
        a: field of the first domain.
        b: field of the second domain.
        one_sided: whether images are translated from the first domain to the second only, by `G_AB` against `D_B`.
        generator: network of each direction.
        discriminator: network of each domain that images are translated to.
        objective: the losses of all networks.
    """

    a: str = "A.image"
    b: str = "B.image"
    one_sided: bool = False
    generator: TranslatorConfig
    discriminator: TranslationDiscriminatorConfig
    objective: UnpairedObjectiveConfig = UnpairedObjectiveConfig()

    @property
    def ways(self) -> tuple[Way, ...]:
        """The directions that are trained."""
        return WAYS[:1] if self.one_sided else WAYS

    def networks(self, fields: Fields) -> dict[str, NetworkSpec]:
        """See TaskConfig: `G_AB` and `D_B`, and `G_BA` and `D_A` unless one-sided; each D for its domain's images."""
        generators: dict[str, NetworkSpec] = {}
        discriminators: dict[str, NetworkSpec] = {}
        for way in self.ways:
            source, target = image_of(fields, way.source(self)), image_of(fields, way.target(self))
            generators[way.G] = NetworkSpec("generator", "translator", self.generator, (source, target))
            judge = NetworkSpec("discriminator", "patch_discriminator", self.discriminator, (target,))
            discriminators = {way.D: judge, **discriminators}
        return {**generators, **discriminators}

    def demands(self) -> Demands:
        """See TaskConfig."""
        terms = self.objective.terms
        return {"G": demands_of(terms.of_generator()), "D": demands_of(terms.of_discriminator())}

    def check_task(self, networks: Mapping[str, Any], *, micro_batch: int) -> None:
        """See TaskConfig."""
        if self.objective.game.relativistic:
            raise ValueError(
                f"objective.adversarial '{self.objective.adversarial}' compares fakes with reals one by one, but G's "
                "phase has no such pairs here: use least_squares, non_saturating or hinge"
            )
        terms = self.objective.terms
        if self.one_sided and terms.cycle is not None:
            raise ValueError(
                "objective.terms.cycle translates back, and one_sided trains no network for it: write "
                "objective.terms.cycle=null"
            )
        if self.objective.flip_equivariance and terms.patch_nce is None:
            raise ValueError("objective.flip_equivariance is of objective.terms.patch_nce, which is not used")
        for way in self.ways:
            terms.check(Setting(networks[way.G], networks[way.D], micro_batch))
        if self.objective.adversary_from_kimg and not terms.of_generator():
            raise ValueError("objective.adversary_from_kimg: until then G needs a term, such as objective.terms.cycle")

    def check_weights(self) -> None:
        """See TaskConfig."""
        self.objective.terms.check_weights()

    def build_sampler(self, fields: Fields, class_counts: Mapping[str, Sequence[int]]) -> "UnpairedSampler":
        """See TaskConfig."""
        a, b = fields[self.a], fields[self.b]
        if self.one_sided:
            return UnpairedSampler(inputs={self.a: a}, outputs={self.b: b})
        return UnpairedSampler(inputs={self.a: a, self.b: b}, outputs={self.b: b, self.a: a})

    def build_task(
        self, fields: Fields, class_counts: Mapping[str, Sequence[int]], *, seed: int, device: torch.device
    ) -> "UnpairedTask":
        """See TaskConfig."""
        return UnpairedTask(self, fields, device=device)


class UnpairedPlayer(Player, ABC):
    """Base class of the generators and the discriminators.

    Args:
        networks: the player's.
        terms: of its loss.
        config: of the task.
        averages: moving averages that steer terms, for each discriminator.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        terms: Mapping[str, Term],
        config: UnpairedConfig,
        averages: Mapping[str, Averages],
    ) -> None:
        super().__init__()
        for name, network in networks.items():
            self.add_module(name, network)
        self.terms, self.config, self.game, self.averages = terms, config, config.objective.game, averages
        self.frozen = frozen_of(terms)

    @abstractmethod
    def loss(
        self, way: Way, due: Due, phase: Phase, batch: Batch, networks: Mapping[str, Any]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the loss of one direction, and what to log of it."""

    def forward(self, phase: Phase, batch: Batch, rivals: Rivals) -> tuple[Tensor, Stats]:
        """Return the loss of all directions, the due terms folded in (Zhu et al. 2017, equation 3)."""
        due = due_terms(self.terms, phase.values)
        networks = {**self.networks(), **rivals}
        losses, stats = zip(*(self.loss(way, due, phase, batch, networks) for way in self.config.ways), strict=True)
        total = torch.stack(losses).sum()
        observed = {name: value for one in stats for name, value in one.items()}
        return total, {**observed, f"loss/{phase.name}": total.detach()}

    def arguments(self, way: Way, networks: Mapping[str, Any], draws: Draws, batch: Batch) -> dict[str, Any]:
        """Return the arguments of a loss context that are the same for both players."""
        learnt = {name: networks[key] for name in self.terms if (key := f"{name}_{way.G}") in networks}
        return {
            "G": networks[way.G],
            "D": networks[way.D],
            "parts": {**self.frozen, **learnt},
            "label": batch.label(),
            "condition": None,
            "draws": draws,
            "real": batch[way.target(self.config)],
            "show": lambda image, draws: image,
            "averages": self.averages[way.D],
        }


class UnpairedDiscriminators(UnpairedPlayer):
    """D_A and D_B, each of which tells its domain's images from translations into it, or from older ones.

    Args:
        pools: histories of generated images, by the name of the discriminator that sees them.
        arguments: see UnpairedPlayer.
    """

    def __init__(self, pools: Mapping[str, ImagePools], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._pools = pools

    def loss(
        self, way: Way, due: Due, phase: Phase, batch: Batch, networks: Mapping[str, Any]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """See UnpairedPlayer."""
        draws = batch.draws.of(phase.name)

        def generate(z: Tensor | None = None) -> Tensor:
            fake = networks[way.G](batch[way.source(self.config)], draws.of(way.G))
            return self._pools[way.D].exchange(fake, draws.of(f"pool/{way.D}"))

        context = DiscriminatorLossContext(generate=generate, **self.arguments(way, networks, draws.of(way.D), batch))
        loss, stats = discriminator_loss(context, self.game, due, weight=phase.values["adversarial"])
        return loss, {f"{name}/{way.D}": value for name, value in stats.items()}


class UnpairedGenerators(UnpairedPlayer):
    """G_AB and G_BA, with adversarial, cycle and other losses, and what terms add to each; see UnpairedPlayer."""

    terms: Mapping[str, GeneratorTerm]

    def __init__(self, networks: Mapping[str, nn.Module], *arguments: Any) -> None:
        super().__init__(networks, *arguments)
        for name, term in self.terms.items():
            for key, network in networks.items():
                part = term.generator_part(network)
                if part is not None:
                    self.add_module(f"{name}_{key}", part)

    def loss(
        self, way: Way, due: Due, phase: Phase, batch: Batch, networks: Mapping[str, Any]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """See UnpairedPlayer."""
        draws, G = batch.draws.of(phase.name).of(way.G), networks[way.G]
        mirrored = draws.of("mirror").integers(2, 1)[:, 0] > 0 if self.config.objective.flip_equivariance else None
        source = mirror(batch[way.source(self.config)], mirrored)
        context = UnpairedLossContext(
            generate=lambda z=None: G(source, draws.of("there")),
            source=source,
            back=lambda image: networks[way.back](image, draws.of("back")),
            translate=lambda image: G(image, draws.of("identity")),
            mirrored=mirrored,
            **self.arguments(way, networks, draws, batch),
        )
        loss, stats = generator_loss(context, self.game, due, weight=phase.values.get("adversarial"))
        # What D says goes by D, as health monitors read it; what G pays, by G.
        return loss, {f"{name}/{way.D if name.startswith('signs/') else way.G}": one for name, one in stats.items()}


@dataclass(frozen=True)
class UnpairedSampler(TaskSampler):
    """Each input to the other domain: `outputs[B]` is made of `inputs[A]` by `G_AB`, and the other way round.

    One-sided, A is the only input and B the only output.
    """

    kind: ClassVar[str] = "unpaired"
    choices: ClassVar[frozenset[str]] = frozenset({"noise"})

    def sources(self, output: str) -> Sequence[str]:
        """See Sampler: the other domain."""
        return [name for name in self.inputs if name != output]

    def network_of(self, output: str) -> str:
        """Return the name of the network that makes an output."""
        return WAYS[list(self.outputs).index(output)].G

    def draw_inputs(self, draws: Draws) -> dict[str, Tensor]:
        """Raise UserError: images to translate must be given."""
        raise UserError(
            f"this network needs the inputs {' and '.join(self.inputs)}: give it images, as `bigtrain apply` does"
        )

    def make(self, networks: Networks, inputs: Mapping[str, Tensor], draws: Draws, **choices: Any) -> dict[str, Tensor]:
        """Translate what is given into the other domain.

        Args:
            networks: `G_AB`, and `G_BA` unless one-sided.
            inputs: one of the fields or both, float32 in [-1, 1], shape [N, C, H, W].
            draws: one a sample.
            choices: `noise=True` lets the networks draw their own noise.

        Returns:
            The outputs whose inputs are given, around [-1, 1], shape [N, C, H, W].
        """
        made = {}
        for source, target in zip(self.inputs, self.outputs, strict=True):
            if source in inputs:
                G = self.network_of(target)
                own = draws.of(G) if choices.get("noise") else None
                made[target] = networks[G](inputs[source], own)
        return made


class UnpairedTask(Task):
    """The discriminators' step, then the generators', on the same batch; see `TaskConfig.build_task`."""

    def __init__(self, config: UnpairedConfig, fields: Fields, *, device: torch.device) -> None:
        self._config = config
        self.specs = config.networks(fields)
        networks = {name: spec.build_on(device) for name, spec in self.specs.items()}
        self._pools = {way.D: ImagePools(config.objective.pool, config.global_batch) for way in config.ways}
        self._averages = {way.D: Averages(device) for way in config.ways}
        terms, shared = config.objective.terms, (config, self._averages)
        D = {way.D: networks[way.D] for way in config.ways}
        G = {way.G: networks[way.G] for way in config.ways}
        with torch.device(device):  # terms may bring weights of their own
            self.players = {
                "D": UnpairedDiscriminators(self._pools, D, terms.of_discriminator(), *shared),
                "G": UnpairedGenerators(G, terms.of_generator(), *shared),
            }
        limit = config.objective.weight_clip
        self.optimizers = {"G": config.optim["G"], "D": config.optim["D"].model_copy(update={"weight_limit": limit})}
        self.averaged = dict(G)
        self.sampler = config.build_sampler(fields, {})

    def phases(self, progress: Progress) -> Sequence[Phase]:
        """See Task."""
        objective = self._config.objective
        return objective.phases(objective.terms, progress)

    def after_step(self, progress: Progress) -> Mapping[str, Tensor]:
        """See Task."""
        for averages in self._averages.values():
            averages.move()
        return {}

    @torch.no_grad()
    def logits_of(self, networks: Rivals, batch: Batch) -> Mapping[str, Tensor]:
        """See Task: the mean over all patches, of each domain's images; statistics are put back."""
        found = {}
        for way in self._config.ways:
            D = networks[way.D]
            with buffers_restored(D):
                found[way.D] = D(batch[way.target(self._config)]).flatten(1).mean(1)
        return found

    def stateful(self) -> Mapping[str, Stateful]:
        """See Task: the histories of generated images, and what steers terms."""
        pools = {f"pool_{name}": pools for name, pools in self._pools.items()}
        return {**pools, **{f"averages_{name}": averages for name, averages in self._averages.items()}}

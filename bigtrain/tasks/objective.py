"""The objective of a generator and a discriminator: the game, and the terms added to it."""

from typing import Annotated

from pydantic import PositiveFloat, PositiveInt, model_validator

from bigtrain.core.config import Config
from bigtrain.core.registry import WithMoreKeys
from bigtrain.core.schedules import ConstantSchedule, Schedule
from bigtrain.core.state import Progress
from bigtrain.engine.player import Phase
from bigtrain.models import Discriminator, StyleGenerator
from bigtrain.models.layers.spectral import SpectralConv2d, SpectralConv3d, SpectralLinear
from bigtrain.tasks.adversary import GameConfig, Share
from bigtrain.tasks.terms import OTHER_TERMS, Setting, TermsConfig, due_weights


class UnrolledConfig(Config):
    """G is trained against the D that results from some more steps (Metz et al. 2017).

    Attributes:
        steps: number of gradient steps of D.
        lr: learning rate of these steps.
    """

    steps: PositiveInt
    lr: PositiveFloat = 1e-3


class ObjectiveConfig(GameConfig):
    """The losses of G and D.

    Attributes:
        terms: losses that are added to the adversarial loss, see docs/reference/objectives.md.
        n_critic: number of updates of D, each on a new batch, per update of G.
        instance_noise: standard deviation of noise that is added to every input of D (Sønderby et al. 2017).
        style_mixing: share of the images that are made from the styles of two latents (Karras et al. 2019).
        top_k: share of the fakes in a micro-batch from which G learns, those with the highest logits (Sinha et al.
            2020).
        unrolled: unrolled steps of D; null for none.
    """

    terms: Annotated[TermsConfig, WithMoreKeys(TermsConfig, OTHER_TERMS)] = TermsConfig()
    n_critic: PositiveInt = 1
    instance_noise: Schedule = ConstantSchedule(value=0.0)
    style_mixing: Share = 0.0
    top_k: Schedule = ConstantSchedule(value=1.0)
    unrolled: UnrolledConfig | None = None

    @model_validator(mode="after")
    def _terms_fit_each_other(self) -> "ObjectiveConfig":
        terms = self.terms.chosen()
        if self.weight_clip is not None and "wgan_gp" in terms:
            raise ValueError("weight_clip and terms.wgan_gp both limit the gradient of D: choose one")
        if {"cr", "bcr"} <= terms.keys():
            raise ValueError("terms.bcr contains terms.cr: choose one")
        return self

    def check(self, setting: Setting) -> None:
        """Find out whether the objective fits the networks and batches.

        Raises:
            ValueError: it does not, with the key and the reason.
        """
        self.terms.check(setting)
        if self.adversarial == "wasserstein" and not self._bounds_slope(setting.discriminator):
            raise ValueError(
                "objective.adversarial 'wasserstein' needs a D whose gradient is limited: add terms.wgan_gp, another "
                "gradient penalty, or weight_clip, or use a discriminator with spectral normalisation"
            )
        if self.adversarial == "relativistic_average" and setting.micro_batch < 2:
            raise ValueError(
                "objective.adversarial 'relativistic_average' averages over a micro-batch: set micro_batch to 2 or more"
            )
        if self.style_mixing and not isinstance(setting.generator, StyleGenerator):
            raise ValueError("objective.style_mixing mixes styles, but this generator has none")

    def _bounds_slope(self, discriminator: Discriminator) -> bool:
        layers = SpectralConv2d | SpectralConv3d | SpectralLinear
        spectral = any(isinstance(module, layers) and module.style.spectral for module in discriminator.modules())
        penalised = {"wgan_gp", "dragan", "r1", "r2"} & self.terms.chosen().keys()
        return spectral or bool(penalised) or self.weight_clip is not None

    def phases(self, progress: Progress) -> list[Phase]:
        """Return the phases of the step that comes: D on each fresh batch, then G on the last of them."""
        now = (progress.samples_seen, progress.total)
        noise, top_k = self.instance_noise.value_at(*now), self.top_k.value_at(*now)
        shown = {"instance_noise": noise} if noise else {}

        of_D, of_G = self.terms.of_discriminator(), self.terms.of_generator()
        discriminator = [
            Phase(
                "d_main",
                player="D",
                batch=number,
                values=shown | due_weights("D", of_D, progress, update=progress.step * self.n_critic + number),
            )
            for number in range(self.n_critic)
        ]
        generator = Phase(
            "g_main",
            player="G",
            batch=self.n_critic - 1,
            values=shown | ({"top_k": top_k} if top_k < 1 else {}) | due_weights("G", of_G, progress),
        )
        return [*discriminator, generator]

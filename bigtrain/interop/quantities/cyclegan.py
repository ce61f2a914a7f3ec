"""CycleGAN: how each number of a golden folder is computed, as its README says."""

from functools import cached_property

from torch import Tensor

from bigtrain.interop.errors import InteropError
from bigtrain.interop.quantities.base import Quantities
from bigtrain.interop.quantities.gan_modes import GAN_MODES, GANMode
from bigtrain.objectives.image_pool import ImagePool


class CycleGANQuantities(Quantities):
    """Numbers of two translators, G_A from A to B and G_B back, and of D_A, which judges images of B, and D_B.

    Inputs: images of both domains; images for the pool, and the numbers that it is given with them.
    """

    inputs = frozenset({"real_A", "real_B", "pool_in", "pool_uniform", "pool_index"})

    def output(self, name: str) -> Tensor | None:
        """See `Quantities.output`."""
        match name:
            case "fake_A":
                return self._fake("A")
            case "fake_B":
                return self._fake("B")
            case "logits_D_A_real":
                return self._judge("D_A", self.given("real_B"))
            case "logits_D_A_fake":
                return self._judge("D_A", self._fake("B"))
            case "logits_D_B_real":
                return self._judge("D_B", self.given("real_A"))
            case "logits_D_B_fake":
                return self._judge("D_B", self._fake("A"))
            case "pool_out":
                pool = ImagePool(self.setting("pool_size"))
                return pool.exchange(*(self.given(f"pool_{name}") for name in ("in", "uniform", "index")))
        return None

    def loss(self, name: str) -> Tensor | None:
        """See `Quantities.loss`."""
        A, B = self.given("real_A"), self.given("real_B")
        by_A, by_B, by_identity = (float(self.setting(f"lambda_{name}")) for name in ("A", "B", "identity"))
        match name:
            case "G_A":
                return self._game.as_real(self._judge("D_A", self._fake("B")))
            case "G_B":
                return self._game.as_real(self._judge("D_B", self._fake("A")))
            case "cycle_A":
                return by_A * _distance(self._translate("G_B", self._fake("B")), A)
            case "cycle_B":
                return by_B * _distance(self._translate("G_A", self._fake("A")), B)
            case "idt_A":
                return by_identity * by_B * _distance(self._translate("G_A", B), B)
            case "idt_B":
                return by_identity * by_A * _distance(self._translate("G_B", A), A)
            case "G" | "G_A_of_G" | "G_B_of_G":
                return self.generators_loss
            case "D_A":
                return self._game.both(self._judge("D_A", B), self._judge("D_A", self._fake("B").detach()))
            case "D_B":
                return self._game.both(self._judge("D_B", A), self._judge("D_B", self._fake("A").detach()))
        return None

    @cached_property
    def generators_loss(self) -> Tensor:
        """The sum of what the two translators minimise together."""
        terms = [self.loss(name) for name in ("G_A", "G_B", "cycle_A", "cycle_B", "idt_A", "idt_B")]
        return sum((term for term in terms if term is not None), start=self._fake("A").new_zeros(()))

    def _fake(self, domain: str) -> Tensor:
        """Return the images that were translated to a domain, `A` or `B`; the same tensor at every call."""
        if domain not in self._fakes:
            translator, source = ("G_B", "real_B") if domain == "A" else ("G_A", "real_A")
            self._fakes[domain] = self._translate(translator, self.given(source))
        return self._fakes[domain]

    @cached_property
    def _fakes(self) -> dict[str, Tensor]:
        return {}

    @property
    def _game(self) -> GANMode:
        name = self.setting("gan_mode")
        if name not in GAN_MODES:
            raise InteropError(f"config.json: gan_mode {name!r} is not one of {', '.join(GAN_MODES)}")
        return GAN_MODES[name]

    def _translate(self, part: str, image: Tensor) -> Tensor:
        translated: Tensor = self.network(part)(image)
        return translated

    def _judge(self, part: str, image: Tensor) -> Tensor:
        logits: Tensor = self.network(part)(image)
        return logits


def _distance(image: Tensor, other: Tensor) -> Tensor:
    return (image - other).abs().mean()

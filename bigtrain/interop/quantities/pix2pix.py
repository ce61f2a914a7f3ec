"""pix2pix: how each number of a golden folder is computed, as its README says."""

import copy
import re
from functools import cached_property

import torch
from torch import Tensor, nn

from bigtrain.interop.quantities.base import Quantities
from bigtrain.interop.quantities.gan_modes import GAN_MODES
from bigtrain.objectives.regularizers import r1_penalty, slope_to_one

_TRAINING = "_train"
_PENALTY_WEIGHT = 10.0


class Pix2PixQuantities(Quantities):
    """Numbers of a translator, a conditional discriminator of patches and one of pixels.

    Inputs: pairs of images, and how the images are mixed that the gradient penalty is taken at.
    """

    inputs = frozenset({"real_A", "real_B", "gp_alpha"})

    def output(self, name: str) -> Tensor | None:
        """See `Quantities.output`."""
        if name.startswith("after_train.G."):
            return self._after_training.get(self._golden.renames["G"](name.removeprefix("after_train.G.")) or "")
        if name == "logits_pixel_real":
            return self._pixel.real_logits
        if name == "logits_pixel_fake":
            return self._pixel.fake_logits
        outputs, name = self._mode(name)
        match name:
            case "fake_B":
                return outputs.fake
            case "logits_real":
                return outputs.real_logits
            case "logits_fake":
                return outputs.fake_logits
        return None

    def penalty(self, name: str) -> Tensor | None:
        """See `Quantities.penalty`."""
        return r1_penalty(*self._mixed).sqrt() if name == "gp_norms" else None

    def loss(self, name: str) -> Tensor | None:
        """See `Quantities.loss`."""
        if name == "D_gradient_penalty":
            return _PENALTY_WEIGHT * slope_to_one(*self._mixed).mean()
        if name == "D_pixel_lsgan":
            return GAN_MODES["lsgan"].both(self._pixel.real_logits, self._pixel.fixed_fake_logits)
        outputs, name = self._mode(name)
        if name == "G_L1":
            return self._l1(outputs)
        named = re.fullmatch(rf"(D|D_real|D_fake|G|G_GAN)_({'|'.join(GAN_MODES)})", name)
        if named is None:
            return None
        game = GAN_MODES[named[2]]
        match named[1]:
            case "D":
                return game.both(outputs.real_logits, outputs.fixed_fake_logits)
            case "D_real":
                return game.as_real(outputs.real_logits)
            case "D_fake":
                return game.as_fake(outputs.real_logits, outputs.fixed_fake_logits)
            case "G_GAN":
                return game.as_real(outputs.fake_logits)
        return game.as_real(outputs.fake_logits) + self._l1(outputs)

    def network_of(self, loss: str) -> tuple[str, nn.Module]:
        """See `Quantities.network_of`: a copy in training mode, if the loss is of that."""
        part, network = super().network_of(loss)
        outputs, _ = self._mode(loss)
        return part, {"G": outputs.G, "D": outputs.D}.get(part, network)

    def _mode(self, name: str) -> tuple["_Outputs", str]:
        """Return the outputs of the mode that a name ends with, and the name without it."""
        if name.endswith(_TRAINING):
            return self._training, name.removesuffix(_TRAINING)
        return self._evaluation, name

    @cached_property
    def _evaluation(self) -> "_Outputs":
        return _Outputs(self.network("G"), self.network("D"), self.given("real_A"), self.given("real_B"))

    @cached_property
    def _training(self) -> "_Outputs":
        G, D = (copy.deepcopy(self.network(part)).train() for part in ("G", "D"))
        return _Outputs(G, D, self.given("real_A"), self.given("real_B"))

    @cached_property
    def _pixel(self) -> "_Outputs":
        return _Outputs(self.network("G"), self.network("D_pixel"), self.given("real_A"), self.given("real_B"))

    @cached_property
    def _after_training(self) -> dict[str, Tensor]:
        """G's running statistics after a forward in training mode."""
        G = copy.deepcopy(self.network("G")).train()
        with torch.no_grad():
            G(self.given("real_A"))
        return dict(G.named_buffers())

    @cached_property
    def _mixed(self) -> tuple[Tensor, Tensor]:
        """D's logits of images between real and generated ones, and these, beside their inputs."""
        A, outputs = self.given("real_A"), self._evaluation
        alpha = self.given("gp_alpha").reshape(-1, 1, 1, 1)
        image = alpha * self.given("real_B") + (1 - alpha) * outputs.fake.detach()
        both = torch.cat([A, image], dim=1).requires_grad_()
        logits: Tensor = self.network("D")(both[:, A.shape[1] :], both[:, : A.shape[1]])
        return logits, both

    def _l1(self, outputs: "_Outputs") -> Tensor:
        distance: Tensor = self.setting("lambda_L1") * (outputs.fake - self.given("real_B")).abs().mean()
        return distance


class _Outputs:
    """What two networks make of the pairs; the fakes and the reals are batches of their own."""

    def __init__(self, translator: nn.Module, discriminator: nn.Module, source: Tensor, target: Tensor) -> None:
        self.G, self.D = translator, discriminator
        self._source, self._target = source, target

    @cached_property
    def fake(self) -> Tensor:
        image: Tensor = self.G(self._source)
        return image

    @cached_property
    def real_logits(self) -> Tensor:
        logits: Tensor = self.D(self._target, self._source)
        return logits

    @cached_property
    def fake_logits(self) -> Tensor:
        logits: Tensor = self.D(self.fake, self._source)
        return logits

    @cached_property
    def fixed_fake_logits(self) -> Tensor:
        """D's logits of the fakes, attached to D only."""
        logits: Tensor = self.D(self.fake.detach(), self._source)
        return logits

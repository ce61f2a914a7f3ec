"""Super-resolution: how each number of a golden folder is computed. Its images are in [0, 1], ours in [-1, 1]."""

from functools import cached_property

import torch.nn.functional as F
from torch import Tensor

from bigtrain.interop.quantities.base import Quantities


class SuperResolutionQuantities(Quantities):
    """Numbers of a network that enlarges the images `low`, and of a discriminator of the large ones."""

    inputs = frozenset({"low", "real"})

    def output(self, name: str) -> Tensor | None:
        """See `Quantities.output`."""
        match name:
            case "img":
                return self.fake
            case "logits_real":
                return self.real_logits
        return None

    def loss(self, name: str) -> Tensor | None:
        """See `Quantities.loss`."""
        match name:
            case "G_l1":
                return (self.fake - self.given("real")).abs().mean()
            case "D_nonsaturating_real":
                return F.softplus(-self.real_logits).mean()
        return None

    @cached_property
    def fake(self) -> Tensor:
        """G's images, in [0, 1]."""
        image: Tensor = self.network("G")(2.0 * self.given("low") - 1.0)
        return 0.5 * image + 0.5

    @cached_property
    def real_logits(self) -> Tensor:
        """D's logits of the real images."""
        logits: Tensor = self.network("D")(2.0 * self.given("real") - 1.0)
        return logits

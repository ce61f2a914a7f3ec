"""PatchNCE: a place of G's image resembles its place in the input more than other places do (Park et al. 2020)."""

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from bigtrain.models.layers.patch_projector import PatchProjector, draw_places
from bigtrain.models.translator import EncodingTranslator, Translator
from bigtrain.objectives.contrastive import patch_nce
from bigtrain.tasks.terms.base import GeneratorLossContext, GeneratorTerm, Setting
from bigtrain.tasks.terms.cycle import UnpairedLossContext, mirror

NAME = "patch_nce"
"""What the term, and its projector in a context, are called."""


class PatchNCE(GeneratorTerm):
    """λ_X · L_PatchNCE(G, H, X) + λ_Y · L_PatchNCE(G, H, Y) (Park et al. 2020, equations 4 and 5).

    The activations of G's encoder at places of G(x) are compared with those at places of x, and those of G(y) with
    those of y. H projects them, and learns with G. The loss is the mean over layers and places.

    Attributes:
        weight: λ_X.
        identity: λ_Y / λ_X; 0 leaves out the images of the target domain (FastCUT).
        layers: the activations that are compared, by their numbers in G's encoder (`EncodingTranslator.encode`).
        patches: places of each image and layer.
        width: of H's layers.
        temperature: τ of the softmax.
    """

    identity: NonNegativeFloat = 1.0
    layers: tuple[NonNegativeInt, ...] = (0, 2, 3, 4, 8)
    patches: PositiveInt = 256
    width: PositiveInt = 256
    temperature: PositiveFloat = 0.07

    @model_validator(mode="after")
    def _layers_are_different(self) -> "PatchNCE":
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers {list(self.layers)}: name at least one layer, each once")
        return self

    def check(self, setting: Setting) -> None:
        """See Term: G needs an encoder of that many layers, and DDP wants H's gradient in every update."""
        generator = setting.generator
        assert isinstance(generator, Translator)
        if not isinstance(generator, EncodingTranslator):
            raise ValueError(
                f"this term compares the activations of an encoder, but '{generator.kind}' has none: use the generator "
                "resnet_translator"
            )
        last = len(generator.encoder_widths) - 1
        if max(self.layers) > last:
            raise ValueError(
                f"layers {list(self.layers)}: the encoder of this '{generator.kind}' has the layers 0 to {last}"
            )
        if self.interval > 1:
            raise ValueError("its projector is trained in every update: leave interval at 1")

    def generator_part(self, generator: Translator) -> PatchProjector:
        """See GeneratorTerm: H."""
        assert isinstance(generator, EncodingTranslator)
        return PatchProjector([generator.encoder_widths[layer] for layer in self.layers], self.width)

    def in_generator(self, context: GeneratorLossContext) -> Tensor:
        """See GeneratorTerm."""
        assert isinstance(context, UnpairedLossContext)
        loss = self._between(context, context.source, context.fake, context.mirrored, "source")
        if self.identity:
            loss = loss + self.identity * self._between(
                context, context.real, context.translate(context.real), None, "target"
            )
        return loss

    def _between(
        self, context: UnpairedLossContext, source: Tensor, made: Tensor, mirrored: Tensor | None, name: str
    ) -> Tensor:
        """Return the loss between images and what G makes of them; `mirrored` says which were mirrored for G."""
        G, H = context.G, context.parts[NAME]
        queries = [mirror(x, mirrored) for x in G.encode(made, self.layers)]
        places = draw_places(context.draws.of(f"{NAME}/{name}"), queries, self.patches)
        with torch.no_grad():
            keys = H(G.encode(mirror(source, mirrored), self.layers), places)
        losses = [
            patch_nce(query, key, self.temperature).mean() for query, key in zip(H(queries, places), keys, strict=True)
        ]
        return torch.stack(losses).mean()

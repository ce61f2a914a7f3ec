"""What networks from images to images offer, and the discriminators that judge their outputs patch by patch."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from bigtrain.core.registry import ConfigUnion
from bigtrain.core.rng import Draws
from bigtrain.models.base import GROUP, DataSpec, ImageSpec, NetworkConfig
from bigtrain.ops.layout import channels_last


class Translator(nn.Module, ABC):
    """A network from images to images: of another domain, or of another size.

    Its config's `build(source, target)` makes one.

    Attributes:
        kind: what its config calls it.
        input: the images it was built to read.
        output: the images it then makes.
        multiple: an input's height and width must be multiples of it; apart from that, inputs of any size are
            translated, into outputs that are larger or smaller by the same factors as `output` is than `input`.
        fills_holes: whether it fills transparent places, so that an image without any is a mistake.
    """

    kind: ClassVar[str]
    fills_holes: ClassVar[bool] = False
    input: DataSpec
    output: DataSpec
    multiple: int = 1

    @abstractmethod
    def forward(self, image: Tensor, draws: Draws | None = None) -> Tensor:
        """Translate images.

        Args:
            image: in [-1, 1], shape [N, C, H, W].
            draws: random numbers for the network's own noise; None for its deterministic form.

        Returns:
            Images around [-1, 1], float32, shape [N, *output.shape] for inputs of shape [N, *source.shape].

        Raises:
            ValueError: the layers cannot divide the height or the width.
        """

    def stages(self) -> Sequence[nn.Module]:
        """See `Generator.stages`."""
        return ()

    def check_size(self, height: int, width: int) -> None:
        """Refuse images whose sides are not multiples of `multiple`.

        Raises:
            ValueError: they are not.
        """
        if height % self.multiple or width % self.multiple:
            raise ValueError(
                f"{self.kind}: {height}x{width} pixels: height and width must be multiples of {self.multiple}"
            )


class TwoStageTranslator(Translator):
    """A translator whose second stage reads what its first stage makes, which can have a target and losses of its own.

    Attributes:
        separate: whether the losses of the second stage leave the first one alone, which then learns from its own
            losses only.
    """

    separate: ClassVar[bool] = False

    @abstractmethod
    def both(self, image: Tensor, draws: Draws | None = None) -> tuple[Tensor, Tensor]:
        """Return what the first stage makes and what the second one makes; see `forward`."""

    def forward(self, image: Tensor, draws: Draws | None = None) -> Tensor:
        """See `Translator.forward`."""
        return self.both(image, draws)[1]


class EncodingTranslator(Translator):
    """A translator that begins with an encoder, whose activations a loss can compare.

    Attributes:
        encoder_widths: channels of the encoder's activations, in order; the first are those of the image itself.
    """

    encoder_widths: tuple[int, ...]

    @abstractmethod
    def encode(self, image: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Return activations of the encoder, without the network's own noise.

        Args:
            image: in [-1, 1], shape [N, C, H, W].
            layers: which ones, as indices into `encoder_widths`; what comes after the last of them is not computed.

        Returns:
            One for each layer, in the order of `layers`, shape [N, encoder_widths[layer], h, w].
        """


class PatchDiscriminator(nn.Module, ABC):
    """A network from images to a map of logits, one for each patch; positive means real.

    Its config's `build(image, condition)` makes one, or `build(image)` where it judges images by themselves.

    Attributes:
        image: what it judges.
        condition: what it sees beside the image, as large as it; None for nothing.
        opinions: for a network of several parts whose logits are side by side, [N, K], how many are each part's; the
            mean over each part counts alike, and their losses are added up. Empty where all logits count alike.
    """

    image: DataSpec
    condition: DataSpec | None
    opinions: tuple[int, ...] = ()

    @abstractmethod
    def features(self, image: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """Return the activations after each block, shallow to deep.

        Args:
            image: in [-1, 1], shape [N, C, H, W].
            condition: in [-1, 1], shape [N, C', H, W]; None if the network has none.
        """

    @abstractmethod
    def head(self, feature: Tensor, condition: Tensor | None = None) -> Tensor:
        """Turn the last of the features, which know the condition, into logits, float32, shape [N, 1, h, w]."""

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the logits of images, float32, shape [N, 1, h, w]."""
        return self.head(self.features(image, condition)[-1])

    def stages(self) -> Sequence[nn.Module]:
        """See `Generator.stages`."""
        return ()

    def draw_view(self, image: Tensor, draws: Draws) -> Tensor:
        """See `Discriminator.draw_view`."""
        return image

    def joined(self, image: Tensor, condition: Tensor | None) -> Tensor:
        """Return the condition's channels, then the image's.

        Raises:
            ValueError: a condition is missing, or the network has none.
        """
        if (condition is None) != (self.condition is None):
            raise ValueError(
                "the discriminator was built " + ("with" if self.condition else "without") + " a condition"
            )
        return channels_last(image if condition is None else torch.cat([condition, image], dim=1))


class BaseTranslatorConfig(NetworkConfig):
    """The config of a translator."""

    @abstractmethod
    def build(self, source: Any, target: Any) -> Translator:
        """Build a translator of `source` into `target`."""


class BaseTwoStageConfig(BaseTranslatorConfig):
    """The config of a translator of two stages."""

    @abstractmethod
    def first_stage(self, source: Any, target: Any) -> DataSpec:
        """Return what the first stage of a translator of `source` into `target` makes.

        Raises:
            ValueError: it is configured to have one stage only.
        """


class BasePatchDiscriminatorConfig(NetworkConfig):
    """The config of a discriminator that judges patches."""

    @abstractmethod
    def build(self, image: Any, condition: Any = None) -> PatchDiscriminator:
        """Build a discriminator of `image`, which sees `condition` beside it."""


TRANSLATORS: ConfigUnion[BaseTranslatorConfig] = ConfigUnion(GROUP, BaseTranslatorConfig)
PATCH_DISCRIMINATORS: ConfigUnion[BasePatchDiscriminatorConfig] = ConfigUnion(GROUP, BasePatchDiscriminatorConfig)
TranslatorConfig = Annotated[BaseTranslatorConfig, TRANSLATORS]
TranslationDiscriminatorConfig = Annotated[BasePatchDiscriminatorConfig, PATCH_DISCRIMINATORS]


def channels_judged(image: ImageSpec, condition: ImageSpec | None) -> int:
    """Return the channels of the condition and the image together.

    Raises:
        ValueError: they differ in size.
    """
    if condition is None:
        return image.channels
    if condition.shape[1:] != image.shape[1:]:
        raise ValueError(
            f"the condition has {_size(condition)} pixels, but the images have {_size(image)}: they must be equal"
        )
    return condition.channels + image.channels


def check_same_size(family: str, source: ImageSpec, target: ImageSpec) -> None:
    """Refuse outputs of another size than the inputs.

    Raises:
        ValueError: they differ.
    """
    if source.shape[1:] != target.shape[1:]:
        raise ValueError(f"{family} makes outputs as large as its inputs, not {_size(target)} from {_size(source)}")


def _size(image: ImageSpec) -> str:
    _, height, width = image.shape
    return f"{height}x{width}"

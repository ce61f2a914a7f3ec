"""Networks that are given label maps: each label becomes a channel, 1 where a pixel has it and 0 elsewhere.

A label map is an image of one channel whose values are labels, counted from 0, as Cityscapes and others store them.
Pixels with other values have no label, and are 0 in all channels.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import ImageSpec
from bigtrain.models.translator import (
    BasePatchDiscriminatorConfig,
    BaseTranslatorConfig,
    PatchDiscriminator,
    TranslationDiscriminatorConfig,
    Translator,
    TranslatorConfig,
)


class LabelMapTranslatorConfig(BaseTranslatorConfig):
    """A translator of label maps.

    Attributes:
        labels: how many there are.
        base: the translator of as many channels.
    """

    kind: Literal["label_map"] = "label_map"
    labels: int = Field(ge=2, le=255)
    base: TranslatorConfig

    def build(self, source: ImageSpec, target: ImageSpec) -> "LabelMapTranslator":
        """Build the network from label maps to `target` images.

        Raises:
            ValueError: `source` has more than one channel, or the base cannot be built.
        """
        return LabelMapTranslator(self, source, target)


class LabelMapDiscriminatorConfig(BasePatchDiscriminatorConfig):
    """A discriminator of images beside label maps.

    Attributes:
        labels: how many there are.
        base: the discriminator of images beside as many channels.
    """

    kind: Literal["label_map"] = "label_map"
    labels: int = Field(ge=2, le=255)
    base: TranslationDiscriminatorConfig

    def build(self, image: ImageSpec, condition: ImageSpec | None = None) -> "LabelMapDiscriminator":
        """Build the discriminator of `image` beside label maps.

        Raises:
            ValueError: there is no condition, or it has more than one channel, or the base cannot be built.
        """
        return LabelMapDiscriminator(self, image, condition)


class LabelMapTranslator(Translator):
    """Another translator, which is given a channel a label."""

    kind = "label_map"

    def __init__(self, config: LabelMapTranslatorConfig, source: ImageSpec, target: ImageSpec) -> None:
        super().__init__()
        self.labels = config.labels
        self.base = config.base.build(_channels(source, config.labels), target)
        self.input, self.output, self.multiple = source, target, self.base.multiple

    def forward(self, image: Tensor, draws: Draws | None = None) -> Tensor:
        """See `Translator.forward`; the image is a label map."""
        made: Tensor = self.base(one_hot(image, self.labels), draws)
        return made

    def stages(self) -> Sequence[nn.Module]:
        """See `Translator.stages`."""
        return self.base.stages()


class LabelMapDiscriminator(PatchDiscriminator):
    """Another discriminator, whose condition has a channel a label."""

    def __init__(self, config: LabelMapDiscriminatorConfig, image: ImageSpec, condition: ImageSpec | None) -> None:
        super().__init__()
        if condition is None:
            raise ValueError("label_map: the discriminator sees a label map beside the image: set conditional: true")
        self.labels = config.labels
        self.base = config.base.build(image, _channels(condition, config.labels))
        self.image, self.condition = image, condition

    def features(self, image: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """See `PatchDiscriminator.features`."""
        found = self.base.features(image, None if condition is None else one_hot(condition, self.labels))
        self.opinions = self.base.opinions
        return found

    def head(self, feature: Tensor, condition: Tensor | None = None) -> Tensor:
        """See `PatchDiscriminator.head`."""
        return self.base.head(feature)

    def stages(self) -> Sequence[nn.Module]:
        """See `PatchDiscriminator.stages`."""
        return self.base.stages()


def one_hot(label_map: Tensor, labels: int) -> Tensor:
    """Return a channel a label.

    Args:
        label_map: labels as the values of an 8-bit image, which is in [-1, 1], shape [N, 1, H, W].
        labels: how many there are.

    Returns:
        0 and 1, shape [N, labels, H, W].
    """
    levels = ((label_map.float() + 1) * 127.5).round()
    numbers = torch.arange(labels, device=label_map.device, dtype=levels.dtype)[:, None, None]
    return (levels == numbers).to(label_map.dtype)


def _channels(label_map: ImageSpec, labels: int) -> ImageSpec:
    if label_map.channels != 1:
        raise ValueError(f"label_map: label maps have one channel, and the field has {label_map.channels}")
    return replace(label_map, channels=labels)

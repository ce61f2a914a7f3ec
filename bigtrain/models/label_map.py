"""Networks that are given label maps: each label becomes a channel, 1 where a pixel has it and 0 elsewhere.

A label map is an image of one channel whose values are labels, counted from 0, as Cityscapes and others store them.
Pixels of value 255 have no label, and are 0 in all channels; other values are refused.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from bigtrain.core.errors import InputError
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

UNLABELLED = 255
"""Value of the pixels without a label."""


class LabelMapTranslatorConfig(BaseTranslatorConfig):
    """A translator of label maps.

    Attributes:
        labels: number of labels, which are 0 to `labels` - 1; pixels of value 255 have none.
        base: the translator that is given one channel per label.
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
        labels: number of labels, as the generator's.
        base: the discriminator that is given one channel per label beside the image.
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
    """Another translator, which is given one channel per label."""

    kind = "label_map"

    def __init__(self, config: LabelMapTranslatorConfig, source: ImageSpec, target: ImageSpec) -> None:
        super().__init__()
        self.labels = config.labels
        self.base = config.base.build(_channels(source, config.labels), target)
        self.input, self.output, self.multiple = source, target, self.base.multiple

    def forward(self, image: Tensor, draws: Draws | None = None) -> Tensor:
        """See `Translator.forward`; the image is a label map.

        Raises:
            InputError: in evaluation mode, the map has labels that the network does not have. Training does not check,
                since it would wait for the device in every step, and is measured with random samples too.
        """
        if not self.training:
            check_labels(image, self.labels)
        made: Tensor = self.base(one_hot(image, self.labels), draws)
        return made

    def stages(self) -> Sequence[nn.Module]:
        """See `Translator.stages`."""
        return self.base.stages()


class LabelMapDiscriminator(PatchDiscriminator):
    """Another discriminator, whose condition has one channel per label."""

    def __init__(self, config: LabelMapDiscriminatorConfig, image: ImageSpec, condition: ImageSpec | None) -> None:
        super().__init__()
        if condition is None:
            raise ValueError("label_map: the discriminator takes a label map beside the image: set conditional: true")
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
    """Return one channel per label.

    Args:
        label_map: labels as the values of an 8-bit image, which is in [-1, 1], shape [N, 1, H, W].
        labels: how many there are.

    Returns:
        0 and 1, shape [N, labels, H, W].
    """
    values = _values(label_map)
    numbers = torch.arange(labels, device=label_map.device, dtype=values.dtype)[:, None, None]
    return (values == numbers).to(label_map.dtype)


def check_labels(label_map: Tensor, labels: int) -> None:
    """Refuse maps with other labels; the values of fake tensors, and of programs being compiled, cannot be checked.

    Args:
        label_map: as in `one_hot`.
        labels: how many there are.

    Raises:
        InputError: there is another label.
    """
    if label_map.is_meta or isinstance(label_map, FakeTensor) or torch.compiler.is_compiling():
        return
    values = _values(label_map)
    greatest = int(torch.where(values == UNLABELLED, 0, values).max())
    if greatest >= labels:
        raise InputError(
            f"label_map: a pixel has the label {greatest}, but generator.labels is {labels}: labels are 0 to "
            f"{labels - 1}, or {UNLABELLED} for pixels without one"
        )


def _values(label_map: Tensor) -> Tensor:
    return ((label_map.float() + 1) * 127.5).round()


def _channels(label_map: ImageSpec, labels: int) -> ImageSpec:
    if label_map.channels != 1:
        raise ValueError(f"label_map: label maps have one channel, but the field has {label_map.channels}")
    return replace(label_map, channels=labels)

"""What networks from a content image and a style image to a stylised image offer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from torch import Tensor, nn

from bigtrain.core.registry import ConfigUnion
from bigtrain.models.base import GROUP, ImageSpec, NetworkConfig


class Styliser(nn.Module, ABC):
    """A network that gives the content of an image the style of another one.

    Its config's `build(content, style)` makes one. It consists of an encoder, which is not trained and by which the
    losses compare images, and of a decoder.

    Attributes:
        kind: what its config calls it.
        input: the content images it was built for.
        output: the images it makes, and those of styles.
        multiple: a content image's height and width must be multiples of it.
    """

    kind: ClassVar[str]
    input: ImageSpec
    output: ImageSpec
    multiple: int = 1

    @abstractmethod
    def encode(self, image: Tensor) -> Sequence[Tensor]:
        """Return the encoder's activations, shallow to deep, of images in [-1, 1], shape [N, C, H, W]."""

    @abstractmethod
    def combine(self, content: Sequence[Tensor], style: Sequence[Tensor]) -> Tensor:
        """Return the deepest activations that the stylised image should have.

        Args:
            content: activations of the content image.
            style: activations of the style image, which may have another size.
        """

    @abstractmethod
    def decode(self, wanted: Tensor) -> Tensor:
        """Return images around [-1, 1], float32, shape [N, *output.shape], for activations from `combine`."""

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        """Stylise images.

        Args:
            content: in [-1, 1], shape [N, C, H, W].
            style: in [-1, 1], shape [N, C, H', W'].

        Returns:
            Images around [-1, 1], float32, shape [N, C, H, W].
        """
        return self.decode(self.combine(self.encode(content), self.encode(style)))

    def stages(self) -> Sequence[nn.Module]:
        """See `Generator.stages`."""
        return ()


class BaseStyliserConfig(NetworkConfig):
    """The config of a styliser."""

    @abstractmethod
    def build(self, content: Any, style: Any) -> Styliser:
        """Build a styliser of `content` images by `style` images."""

    @abstractmethod
    def check_weights(self) -> None:
        """Find out whether the weights of the encoder are there.

        Raises:
            WeightsError: they are missing or wrong.
        """


STYLISERS: ConfigUnion[BaseStyliserConfig] = ConfigUnion(GROUP, BaseStyliserConfig)
StyliserConfig = Annotated[BaseStyliserConfig, STYLISERS]

"""What every generator and discriminator offers, and the shape of the images they work on."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar

from torch import Tensor, nn

from bigtrain.core.config import Config
from bigtrain.core.registry import ConfigUnion
from bigtrain.core.rng import Draws

GROUP = "bigtrain.networks"
"""Entry points of this group name the configs of networks that other packages bring."""


class DataSpec(ABC):
    """What a network makes, judges or is given.

    Attributes:
        classes: number of classes; 0 for an unconditional network.
    """

    classes: int

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return the arguments that build an equal object, as JSON values."""


@dataclass(frozen=True)
class ArraySpec(DataSpec):
    """Samples that are no images: sounds [C, L], volumes [C, D, H, W], clips [T, C, H, W], points [N, 3].

    Attributes:
        size: their shape.
        classes: number of classes; 0 for an unconditional network.
    """

    size: tuple[int, ...]
    classes: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.size

    def describe(self) -> dict[str, Any]:
        """See DataSpec."""
        return {"size": list(self.size), "classes": self.classes}


@dataclass(frozen=True)
class ImageSpec(DataSpec):
    """The images of a dataset, values in [-1, 1].

    Attributes:
        resolution: height in pixels, and width unless `width` says otherwise.
        channels: 1 for grey, 3 for RGB, 2 and 4 with transparency.
        classes: number of classes; 0 for an unconditional network.
        width: of images that are not square.
    """

    resolution: int
    channels: int
    classes: int = 0
    width: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.channels, self.resolution, self.width or self.resolution

    def describe(self) -> dict[str, Any]:
        """See DataSpec."""
        return asdict(self)

    def square(self, family: str) -> int:
        """Return height = width, for a family whose design needs it.

        Raises:
            ValueError: the images are not square.
        """
        _, height, width = self.shape
        if height != width:
            raise ValueError(f"{family} makes square images, not {height}x{width}")
        return height


class Generator(nn.Module, ABC):
    """A network from latents to samples: images, or arrays of another shape.

    Attributes:
        z_dim: length of the latent vector.
        image: what it generates.
    """

    z_dim: int
    image: DataSpec

    @abstractmethod
    def forward(self, z: Tensor, label: Tensor, *, draws: Draws | None = None, truncation: float = 1.0) -> Tensor:
        """Generate images.

        Args:
            z: standard normal latents, shape [N, z_dim].
            label: class indices, int64, shape [N] (or class weights, float, shape [N, classes]); ignored by an
                unconditional generator.
            draws: random numbers for the network's own noise; None for its deterministic form.
            truncation: 1 samples the whole distribution, smaller values trade variety for fidelity.

        Returns:
            Images around [-1, 1], not clamped, shape [N, *image.shape].
        """

    def stages(self) -> Sequence[nn.Module]:
        """Return the parts in order whose activations may be computed again in the backward pass to save memory."""
        return ()

    def grow(self, samples_seen: int) -> None:
        """Grow to the size that belongs to this point of the training; most networks are whole from the start."""

    def calibrate(self, z: Tensor, label: Tensor) -> None:
        """Set the statistics that sampling needs (mean w, standing batch statistics) from many latents, in place."""


class StyleGenerator(Generator):
    """A generator whose latent is first mapped to styles: one vector w for each layer (Karras et al. 2019).

    Style mixing and the path length penalty work on the styles.

    Attributes:
        num_ws: number of layers that take a style.
        w_dim: length of a style.
    """

    num_ws: int
    w_dim: int

    @abstractmethod
    def styles(self, z: Tensor, label: Tensor, *, truncation: float = 1.0, cutoff: int | None = None) -> Tensor:
        """Map latents [N, z_dim] and labels to styles [N, num_ws, w_dim].

        Args:
            z: as in `forward`.
            label: as in `forward`.
            truncation: how far from the mean style, 1 for all the way (psi).
            cutoff: truncate the first `cutoff` layers only; None for all.
        """

    @abstractmethod
    def synthesize(self, ws: Tensor, *, draws: Draws | None = None) -> Tensor:
        """Turn styles [N, num_ws, w_dim] into images [N, *image.shape]."""

    def forward(
        self,
        z: Tensor,
        label: Tensor,
        *,
        draws: Draws | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
    ) -> Tensor:
        """Generate images; see `Generator.forward`, and `styles` for the cutoff."""
        return self.synthesize(self.styles(z, label, truncation=truncation, cutoff=cutoff), draws=draws)


class Discriminator(nn.Module, ABC):
    """A network from images to one logit each; positive means real.

    It has a body and a head, because some objectives need what lies between: the auxiliary classifier and minibatch
    discrimination read the last feature, feature matching all of them.

    Attributes:
        image: what it judges.
        features_dim: length of the last feature.
        smooth: whether its second derivatives are all there is: no kinks (ReLU), and the same answer when asked twice.
        group: number of samples that are compared with each other; batches are cut so that the groups have the same
            members with any micro-batch and on any number of ranks.
        opinions: for a network of several parts whose logits are side by side, [N, K], how many are each part's; the
            losses of the parts are added. Empty: the loss is the mean over all logits.

    A network that judges every place of an image by itself (a U-Net, patches) keeps the places behind: its last feature
    has shape [N, features_dim, h, w], its logits [N, h, w]. One that judges at several scales has logits [N, scales].
    Losses average over all of them.
    """

    image: DataSpec
    features_dim: int
    smooth: bool = False
    group: int = 1
    opinions: tuple[int, ...] = ()

    @abstractmethod
    def features(self, image: Tensor, label: Tensor) -> list[Tensor]:
        """Return the activations after each block, shallow to deep; the last one has shape [N, features_dim].

        Args:
            image: shape [N, *image.shape], in [-1, 1].
            label: as in `Generator.forward`; most families use it in the head only.
        """

    @abstractmethod
    def head(self, feature: Tensor, label: Tensor) -> Tensor:
        """Turn the last feature [N, features_dim] into logits, float32, shape [N]."""

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return ()

    def grow(self, samples_seen: int) -> None:
        """See Generator."""

    def draw_view(self, image: Tensor, draws: Draws) -> Tensor:
        """Return what the network looks at in training where it looks at randomly drawn parts; most look at all.

        Args:
            image: shape [N, *image.shape].
            draws: of these samples in this phase.
        """
        return image

    def as_generated(self, real: Tensor) -> Tensor:
        """Return real images with no more detail than a generator that grows along has by now."""
        return real

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """Return the logits of images, float32, shape [N]."""
        return self.head(self.features(image, label)[-1], label)


class NetworkConfig(Config, ABC):
    """The config of a network of any role; its `kind` is the family's name.

    Attributes:
        works_on: kind of samples that the networks process.
    """

    works_on: ClassVar[type[DataSpec]] = ImageSpec

    @abstractmethod
    def build(self, *images: Any, **choices: Any) -> nn.Module:
        """Build the network; what for is up to its role, see the subclasses.

        Raises:
            ValueError: the config does not fit the images.
        """


class BaseGeneratorConfig(NetworkConfig):
    """The config of a generator."""

    @abstractmethod
    def build(self, image: Any) -> Generator:
        """Build a generator of `image`."""


class BaseDiscriminatorConfig(NetworkConfig):
    """The config of a discriminator."""

    @abstractmethod
    def build(self, image: Any) -> Discriminator:
        """Build a discriminator of `image`."""


GENERATORS: ConfigUnion[BaseGeneratorConfig] = ConfigUnion(GROUP, BaseGeneratorConfig)
DISCRIMINATORS: ConfigUnion[BaseDiscriminatorConfig] = ConfigUnion(GROUP, BaseDiscriminatorConfig)
GeneratorConfig = Annotated[BaseGeneratorConfig, GENERATORS]
DiscriminatorConfig = Annotated[BaseDiscriminatorConfig, DISCRIMINATORS]

"""EG3D: images of a volume that three planes of features describe (Chan et al. 2022).

StyleGAN2 turns a latent into three planes; a small network turns their features at a point in space into a density and
a colour; a volume renderer makes a coarse image of many channels, and StyleGAN2's layers enlarge it. The camera is the
condition of the run (`condition.field`): its 25 numbers, see `bigtrain.ops.cameras`. The discriminator is any that
takes a vector as a condition, such as StyleGAN2's. For dual discrimination, generate a derived field `dual`, whose
second half is the coarse image.

The object is expected in the ball of radius 1 around the origin. In the paper, the camera also conditions the styles,
as appearance and camera may be correlated in photographs; here it does not.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import BaseGeneratorConfig, Generator, ImageSpec
from bigtrain.models.layers.equalized import EqualizedLinear
from bigtrain.models.stylegan2 import StyleGAN2GeneratorConfig, SynthesisLayer, ToRGB, up_padding
from bigtrain.ops.cameras import CAMERA, rays_of
from bigtrain.ops.grid_lookup import look_up
from bigtrain.ops.upfirdn import fir_filter, upfirdn2d
from bigtrain.ops.volume_rendering import composite, resampled, stratified

_COLOURS = 3

_AXES = ((0, 1), (0, 2), (2, 1))
"""The two coordinates of a point that are its place on each plane."""


class EG3DGeneratorConfig(BaseGeneratorConfig):
    """The generator's parts; the defaults are those of the paper for images of 512x512.

    Attributes:
        base: StyleGAN2, which makes the planes.
        planes: height and width of the planes.
        features: channels of each plane.
        hidden: width of the network that turns features into density and colour.
        channels: of the coarse image; the first three are its colours.
        resolution: height and width of the coarse image; doubling it leads to the height of the image.
        coarse_samples: places on each ray, at even distances.
        fine_samples: further places where the first ones found most.
        white: whether what no ray meets is white; otherwise it is grey, as the sum of nothing.
        width: channels of the layers that enlarge the coarse image.
    """

    kind: Literal["eg3d"] = "eg3d"
    base: StyleGAN2GeneratorConfig = StyleGAN2GeneratorConfig()
    planes: PositiveInt = 256
    features: PositiveInt = 32
    hidden: PositiveInt = 64
    channels: int = Field(default=32, ge=_COLOURS)
    resolution: PositiveInt = 128
    coarse_samples: PositiveInt = 48
    fine_samples: NonNegativeInt = 48
    white: bool = False
    width: PositiveInt = 128

    def build(self, image: ImageSpec) -> "EG3DGenerator":
        """Build the generator of square images of three channels, or of six: such an image and a coarse one."""
        return EG3DGenerator(self, image)


class EG3DGenerator(Generator):
    """z -> w -> three planes; camera, planes -> coarse image -> image."""

    def __init__(self, config: EG3DGeneratorConfig, image: ImageSpec) -> None:
        super().__init__()
        self.image, self.config = image, config
        side = image.square("eg3d")
        if image.classes != CAMERA:
            raise ValueError(
                "eg3d renders images from cameras: set condition.field to a field of 25 numbers, such as a derived "
                "field {kind: orbit_camera}"
            )
        if image.channels not in (_COLOURS, 2 * _COLOURS):
            raise ValueError(
                f"eg3d makes images of 3 channels, or of 6 in a derived field 'dual', not {image.channels}"
            )
        self.dual = image.channels != _COLOURS
        doublings = round(math.log2(side / config.resolution))
        if doublings < 0 or config.resolution * 2**doublings != side:
            raise ValueError(f"eg3d: doubling resolution {config.resolution} does not lead to images of {side} pixels")
        self.backbone = config.base.build(ImageSpec(config.planes, 3 * config.features))
        self.z_dim = self.backbone.z_dim
        self.decoder = nn.Sequential(
            EqualizedLinear(config.features, config.hidden),
            nn.Softplus(),
            EqualizedLinear(config.hidden, 1 + config.channels),
        )
        sides = [config.resolution * 2 ** (level + 1) for level in range(doublings)]
        self.enlarging = nn.ModuleList(
            Enlargement(config.base, config.width if level else config.channels, config.width, side)
            for level, side in enumerate(sides)
        )

    def forward(self, z: Tensor, label: Tensor, *, draws: Draws | None = None, truncation: float = 1.0) -> Tensor:
        """Generate images; see `Generator.forward`.

        Args:
            z: see `Generator.forward`.
            label: cameras, float32, shape [N, 25].
            draws: also jitter the places on the rays; without them, these are in the middle of their parts.
            truncation: of the styles.
        """
        ws = self.backbone.styles(z, _no_class(z), truncation=truncation)
        planes = self.backbone.synthesize(ws, draws=draws)
        features = self.render(planes, label, draws)
        coarse = image = features[:, :_COLOURS]
        for block in self.enlarging:
            features, image = block(features, image, ws[:, -1])
        if not self.dual:
            return image.float()
        whole = image.shape[2:]
        coarse = F.interpolate(coarse, size=(whole[0], whole[1]), mode="bilinear", align_corners=False)
        return torch.cat([image.float(), coarse], dim=1)

    def render(self, planes: Tensor, camera: Tensor, draws: Draws | None = None) -> Tensor:
        """Return coarse images of a volume.

        Args:
            planes: shape [N, 3 * features, P, P].
            camera: shape [N, 25].
            draws: jitter the places on the rays.

        Returns:
            float32, colours in [-1, 1] first, shape [N, channels, resolution, resolution].
        """
        config, side = self.config, self.config.resolution
        planes = planes.float().reshape(-1, config.features, *planes.shape[2:])
        origin, direction = rays_of(camera, side, side)
        centre = origin.norm(dim=1)
        near, far = (centre - 1).clamp(min=0.01), centre + 1
        shape = (len(camera), side**2, config.coarse_samples)
        within = direction.new_full(shape, 0.5) if draws is None else draws.of("depth").uniform(*shape[1:])
        depth = stratified(near, far, within)
        density, colour = self._decode(planes, origin, direction, depth)
        if config.fine_samples:
            with torch.no_grad():
                _, weights = composite(density, colour, depth, far)
                even = self._even(draws, weights)
                fine = resampled(near, far, weights, even)
            more_density, more_colour = self._decode(planes, origin, direction, fine)
            depth, order = torch.cat([depth, fine], dim=2).sort(dim=2)
            density = torch.cat([density, more_density], dim=2).gather(2, order)
            places = order[..., None].expand(-1, -1, -1, colour.shape[3])
            colour = torch.cat([colour, more_colour], dim=2).gather(2, places)
        seen, weights = composite(density, colour, depth, far)
        if config.white:
            missed = 1 - weights.sum(2, keepdim=True)
            seen = torch.cat([seen[..., :_COLOURS] + missed, seen[..., _COLOURS:]], dim=2)
        return seen.mT.reshape(len(camera), config.channels, side, side)

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return [*self.backbone.stages(), *self.enlarging]

    def calibrate(self, z: Tensor, label: Tensor) -> None:
        """See Generator."""
        self.backbone.calibrate(z, _no_class(z))

    def _decode(self, planes: Tensor, origin: Tensor, direction: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        """Return densities [N, R, S] and colours in [-1, 1], [N, R, S, channels], at places on rays."""
        count, rays, samples = depth.shape
        points = origin[:, None, None] + depth[..., None] * direction[:, :, None]
        along = points.unbind(3)
        grid = torch.stack([torch.stack([along[one], along[other]], dim=3) for one, other in _AXES], dim=1)
        found = look_up(planes, grid.reshape(3 * count, rays, samples, 2))
        features = found.reshape(count, 3, -1, rays * samples).mean(1).transpose(1, 2)
        decoded = self.decoder(features.flatten(0, 1)).float().reshape(count, rays, samples, -1)
        density = F.softplus(decoded[..., 0] - 1)
        inside = points.square().sum(3) <= 1
        return density * inside, decoded[..., 1:].sigmoid() * 2.004 - 1.002  # colours reach -1 and 1 without saturating

    def _even(self, draws: Draws | None, weights: Tensor) -> Tensor:
        """Return `fine_samples` ascending numbers in [0, 1) for each ray, jittered if there are draws."""
        count, (images, rays, _) = self.config.fine_samples, weights.shape
        within = 0.5 if draws is None else draws.of("fine").uniform(rays, count)
        return ((torch.arange(count, device=weights.device) + within) / count).expand(images, rays, count)


class Enlargement(nn.Module):
    """Two of StyleGAN2's layers without noise, which double the resolution of features and of their image.

    Args:
        config: of StyleGAN2.
        channels: of the features.
        out_channels: of the larger features.
        side: height and width of the larger features.
    """

    fir: Tensor

    def __init__(self, config: StyleGAN2GeneratorConfig, channels: int, out_channels: int, side: int) -> None:
        super().__init__()
        quiet = config.model_copy(update={"noise": "none"})
        self.taps = config.taps
        self.register_buffer("fir", torch.empty(len(self.taps), len(self.taps)), persistent=False)
        self.conv0 = SynthesisLayer(quiet, channels, out_channels, (side, side), up=2)
        self.conv1 = SynthesisLayer(quiet, out_channels, out_channels, (side, side))
        self.torgb = ToRGB(quiet, out_channels, _COLOURS)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Compute the filter."""
        self.fir.copy_(fir_filter(self.taps))

    def forward(self, x: Tensor, image: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Turn features [N, C, R, R] and their image into larger ones, [N, C', 2R, 2R] and [N, 3, 2R, 2R]."""
        x = self.conv1(self.conv0(x, w, None), w, None)
        image = upfirdn2d(image, self.fir, up=2, padding=up_padding(self.fir), gain=4)
        return x, image + self.torgb(x, w).float()


def _no_class(z: Tensor) -> Tensor:
    return torch.zeros(len(z), dtype=torch.int64, device=z.device)

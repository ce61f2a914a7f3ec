"""MoCoGAN: a content code for the whole clip, and a motion code for each frame (Tulyakov et al. 2018).

A recurrent network turns noise, a vector for each frame, into the motion codes; any generator of images turns content
and motion into the frames, each by itself. There are two discriminators: any discriminator of images judges a frame
that is drawn at random, and three-dimensional convolutions judge the clip. Their losses are added.

A class stands for a kind of motion, as in section 3.4 of the paper: it is given to the recurrent network with every
frame's noise. The paper finds it again by a classifier (`objective.terms.auxiliary_classifier`); the discriminator of
clips also has a projection of the class (Miyato & Koyama 2018). The discriminator of frames does not see it.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.models.base import (
    ArraySpec,
    BaseDiscriminatorConfig,
    BaseGeneratorConfig,
    DataSpec,
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
)
from bigtrain.models.layers.clips import ClipDiscriminator, Norm, frame_of
from bigtrain.models.layers.conditioning import class_weights
from bigtrain.models.layers.drawn_frames import append_drawn_frames, split_drawn_frames


class MoCoGANGeneratorConfig(BaseGeneratorConfig):
    """The generator's parts.

    Attributes:
        base: the generator of single frames; the length of its latent, less `motion_dim`, is that of the content.
        motion_dim: length of a motion code, which is the recurrent network's state.
        noise_dim: length of the noise that each frame adds.
    """

    kind: Literal["mocogan"] = "mocogan"
    works_on: ClassVar[type[DataSpec]] = ArraySpec
    base: GeneratorConfig
    motion_dim: PositiveInt = 10
    noise_dim: PositiveInt = 10

    def build(self, image: ArraySpec) -> "MoCoGANGenerator":
        """Build the generator of clips [T, C, H, W]."""
        return MoCoGANGenerator(self, image)


class MoCoGANDiscriminatorConfig(BaseDiscriminatorConfig):
    """The two discriminators.

    Attributes:
        base: the discriminator of single frames.
        width: channels of the discriminator of clips after its first layer; they double, up to eight times that.
        norm: normalisation after each layer of the discriminator of clips but the first; gradient penalties need
            `layer` or `none`.
    """

    kind: Literal["mocogan"] = "mocogan"
    works_on: ClassVar[type[DataSpec]] = ArraySpec
    base: DiscriminatorConfig
    width: PositiveInt = 64
    norm: Norm = "batch"

    def build(self, image: ArraySpec) -> "MoCoGANDiscriminator":
        """Build the discriminators of clips [T, C, H, W] and of their frames."""
        return MoCoGANDiscriminator(self, image)


class MoCoGANGenerator(Generator):
    """Content and noise, class -> motion codes -> frames, [N, T, C, H, W].

    The latent has the content first, and then the noise of each frame.
    """

    def __init__(self, config: MoCoGANGeneratorConfig, clip: ArraySpec) -> None:
        super().__init__()
        self.image, self.frames = clip, clip.shape[0]
        self.frame = config.base.build(frame_of(clip, "mocogan"))
        self.content_dim, self.noise_dim = self.frame.z_dim - config.motion_dim, config.noise_dim
        if self.content_dim < 1:
            raise ValueError(
                f"mocogan's base.z_dim {self.frame.z_dim} contains the content and motion_dim {config.motion_dim}: "
                f"use base.z_dim {config.motion_dim + 1} or more"
            )
        self.z_dim = self.content_dim + self.frames * config.noise_dim
        self.motion = MotionNetwork(config.noise_dim + clip.classes, config.motion_dim)

    def forward(self, z: Tensor, label: Tensor, *, draws: Draws | None = None, truncation: float = 1.0) -> Tensor:
        """Generate clips; see `Generator.forward`. Truncation scales z."""
        codes, no_class = self._codes(z * truncation, label)
        frames: Tensor = self.frame(codes, no_class)
        return frames.reshape(-1, self.frames, *frames.shape[1:])

    def stages(self) -> Sequence[nn.Module]:
        """See Generator."""
        return self.frame.stages()

    def calibrate(self, z: Tensor, label: Tensor) -> None:
        """Calibrate the generator of frames."""
        with torch.no_grad():
            codes, no_class = self._codes(z, label)
        self.frame.calibrate(codes, no_class)

    def _codes(self, z: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return the latents of all frames, clip by clip, and a class for each, which the frames' generator ignores."""
        content, noise = torch.split(z, [self.content_dim, self.frames * self.noise_dim], dim=1)
        noise = noise.reshape(-1, self.frames, self.noise_dim)
        if self.image.classes:
            weights = class_weights(label, self.image.classes).to(z.dtype)
            noise = torch.cat([noise, weights[:, None].expand(-1, self.frames, -1)], dim=2)
        motion = self.motion(noise)
        content = content[:, None].expand(-1, self.frames, -1).to(motion.dtype)
        codes = torch.cat([content, motion], dim=2).flatten(0, 1)
        return codes, torch.zeros(len(codes), dtype=torch.int64, device=codes.device)


class MotionNetwork(nn.Module):
    """A gated recurrent unit (Cho et al. 2014) whose states are the motion codes; the state before the first is zero.

    Args:
        features: length of each frame's input.
        state: length of the state.
    """

    def __init__(self, features: int, state: int) -> None:
        super().__init__()
        self.state = state
        self.of_input, self.of_state = nn.Linear(features, 3 * state), nn.Linear(state, 3 * state)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, T, features] to the states, [N, T, state]."""
        inputs = self.of_input(x)
        state = inputs.new_zeros(len(x), self.state)
        states = []
        for one in inputs.unbind(1):
            reset, update, candidate = one.chunk(3, dim=1)
            from_reset, from_update, from_state = self.of_state(state).chunk(3, dim=1)
            update = torch.sigmoid(update + from_update)
            candidate = torch.tanh(candidate + torch.sigmoid(reset + from_reset) * from_state)
            state = torch.lerp(candidate, state, update)
            states.append(state)
        return torch.stack(states, dim=1)


class MoCoGANDiscriminator(Discriminator):
    """A drawn frame -> logit of the one; clip -> logit of the other; logits of shape [N, 2]."""

    def __init__(self, config: MoCoGANDiscriminatorConfig, clip: ArraySpec) -> None:
        super().__init__()
        self.image, self.length = clip, clip.shape[0]
        self.frame = config.base.build(frame_of(clip, "mocogan"))
        self.clip = ClipDiscriminator(clip, config.width, config.norm)
        self.widths = [self.frame.features_dim, self.clip.features_dim]
        self.features_dim, self.group = sum(self.widths), self.frame.group

    def draw_view(self, image: Tensor, draws: Draws) -> Tensor:
        """See Discriminator: a frame is drawn from each clip."""
        return append_drawn_frames(image, draws, 1)

    def features(self, image: Tensor, label: Tensor) -> list[Tensor]:
        """Return the activations of both; the last one is their last features side by side.

        Args:
            image: clips [N, T, C, H, W], with or without a drawn frame behind; without, the one in the middle is taken.
            label: see Discriminator.
        """
        clip, frames = split_drawn_frames(image, self.length, 1)
        *inner, of_frame = self.frame.features(frames[:, 0], torch.zeros_like(label))
        *more, of_clip = self.clip.features(clip, label)
        return [*inner, *more, torch.cat([of_frame, of_clip], dim=1)]

    def head(self, feature: Tensor, label: Tensor) -> Tensor:
        """Turn the last features [N, features_dim] into logits, float32, of the frame first and the clip last."""
        of_frame, of_clip = torch.split(feature, self.widths, dim=1)
        parts = [self.frame.head(of_frame, torch.zeros_like(label)), self.clip.head(of_clip, label)]
        logits = [part.reshape(len(feature), -1) for part in parts]
        self.opinions = tuple(part.shape[1] for part in logits)  # a frame may have logits of several scales
        return torch.cat(logits, dim=1)

    def stages(self) -> Sequence[nn.Module]:
        """See Discriminator."""
        return [*self.frame.stages(), *self.clip.stages()]

"""ESRGAN's training step in plain PyTorch: what `train_step.py --workload esrgan-x4 --reference` compares with.

Written from the papers (Wang et al. 2018 and 2021) in the shape in which BasicSR trains: float32, PyTorch's default
layout, `torch.optim.Adam`, G first and D on the images that G has just made, the average of G's weights parameter by
parameter. The perceptual loss looks through the same frozen network as the other path, whose weights are here.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from bigtrain.models.pretrained import EfficientNetLite0Maps


class Dense(nn.Module):
    """Five convolutions, each of which sees all before it."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width + i * growth, growth, 3, 1, 1) for i in range(4))
        self.last = nn.Conv2d(width + 4 * growth, width, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        seen = [x]
        for conv in self.convs:
            seen.append(F.leaky_relu(conv(torch.cat(seen, 1)), 0.2, inplace=True))
        out: Tensor = self.last(torch.cat(seen, 1)) * 0.2 + x
        return out


class Block(nn.Module):
    """Three dense blocks and a residual connection."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.dense = nn.Sequential(*(Dense(width, growth) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        out: Tensor = self.dense(x) * 0.2 + x
        return out


class RRDB(nn.Module):
    """The generator, four times as large images."""

    def __init__(self, blocks: int, width: int = 64, growth: int = 32) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, 1, 1)
        self.body = nn.Sequential(*(Block(width, growth) for _ in range(blocks)))
        self.after, self.up1, self.up2, self.hr = (nn.Conv2d(width, width, 3, 1, 1) for _ in range(4))
        self.last = nn.Conv2d(width, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge images in [0, 1], shape [N, 3, H, W]."""
        x = self.first(x)
        x = x + self.after(self.body(x))
        for up in (self.up1, self.up2):
            x = F.leaky_relu(up(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2, inplace=True)
        out: Tensor = self.last(F.leaky_relu(self.hr(x), 0.2, inplace=True))
        return out


class UNet(nn.Module):
    """The discriminator of pixels."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, 1, 1)
        self.down = nn.ModuleList(
            spectral_norm(nn.Conv2d(width * 2**i, width * 2 ** (i + 1), 4, 2, 1, bias=False)) for i in range(3)
        )
        self.up = nn.ModuleList(
            spectral_norm(nn.Conv2d(width * 2 ** (i + 1), width * 2**i, 3, 1, 1, bias=False)) for i in (2, 1, 0)
        )
        self.after = nn.ModuleList(spectral_norm(nn.Conv2d(width, width, 3, 1, 1, bias=False)) for _ in range(2))
        self.last = nn.Conv2d(width, 1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, 1, H, W]."""
        levels = [F.leaky_relu(self.first(x), 0.2, inplace=True)]
        for down in self.down:
            levels.append(F.leaky_relu(down(levels[-1]), 0.2, inplace=True))
        x = levels.pop()
        for up in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = F.leaky_relu(up(x), 0.2, inplace=True) + levels.pop()
        for conv in self.after:
            x = F.leaky_relu(conv(x), 0.2, inplace=True)
        out: Tensor = self.last(x)
        return out


def relative(logits: Tensor, others: Tensor, target: bool) -> Tensor:
    """Return the loss of logits relative to the mean of the others (Wang et al. 2018, equations 1 and 2)."""
    gap = logits - others.mean()
    return F.binary_cross_entropy_with_logits(gap, torch.full_like(gap, float(target)))


class PlainESRGAN:
    """The step's phases, named as those of the other path.

    Args:
        config: of the other path.
        kinds: how often a step has each of the other path's phases.
    """

    def __init__(self, config: Any, kinds: dict[str, float]) -> None:
        self.often = kinds
        self._batch, self._side = config.global_batch, config.data.resolution
        self.G, self.D = RRDB(config.generator.blocks), UNet()
        self._average = copy.deepcopy(self.G).requires_grad_(False)
        self._optimizers = {name: torch.optim.Adam(net.parameters(), 1e-4) for name, net in self._networks().items()}
        self._weights = {name: term.weight.value for name, term in config.objective.terms.chosen().items()}
        self._game = config.objective.adversarial_weight.value
        self._seeing = EfficientNetLite0Maps()
        self._seeing.load(torch.device("cpu"))
        self._seeing.to(memory_format=torch.contiguous_format)
        self.parameters = {name: sum(p.numel() for p in net.parameters()) for name, net in self._networks().items()}
        self._made: tuple[Tensor, Tensor] | None = None

    def _networks(self) -> dict[str, nn.Module]:
        return {"G": self.G, "D": self.D}

    def take(self, kind: str) -> None:
        """Run a phase: G's makes the images that D's then judges."""
        phase = kind.split("+")[0]
        if phase == "sample":
            with torch.no_grad():
                self.G(torch.rand(self._batch, 3, self._side // 4, self._side // 4))
        elif phase == "g_main":
            self._step_of_generator()
        elif phase == "d_main":
            self._step_of_discriminator()
        else:
            with torch.no_grad():
                for own, now in zip(self._average.parameters(), self.G.parameters(), strict=True):
                    own.mul_(0.999).add_(now, alpha=0.001)

    def _step_of_generator(self) -> None:
        self.D.requires_grad_(False)
        real = torch.rand(self._batch, 3, self._side, self._side)
        fake = self.G(torch.rand(self._batch, 3, self._side // 4, self._side // 4))
        loss = self._weights["l1"] * F.l1_loss(fake, real)
        with torch.no_grad():
            wanted = self._seeing(2 * real - 1)
        made = self._seeing(2 * fake - 1)
        pairs = zip(made, wanted, strict=True)
        loss = loss + self._weights["perceptual"] * torch.stack([F.mse_loss(one, other) for one, other in pairs]).mean()
        real_logits, fake_logits = self.D(real).detach(), self.D(fake)
        game = relative(real_logits, fake_logits, False) + relative(fake_logits, real_logits, True)
        self._move("G", loss + self._game * game / 2)
        self._made = real, fake.detach()

    def _step_of_discriminator(self) -> None:
        if self._made is None:
            size = (self._batch, 3, self._side, self._side)
            self._made = torch.rand(size), torch.rand(size)
        self.D.requires_grad_(True)
        real_logits, fake_logits = (self.D(image) for image in self._made)
        self._move("D", (relative(real_logits, fake_logits, True) + relative(fake_logits, real_logits, False)) / 2)

    def _move(self, name: str, loss: Tensor) -> None:
        self._optimizers[name].zero_grad()
        loss.backward()
        self._optimizers[name].step()

    def count(self, kind: str) -> float:
        """Return the GFLOP of a phase of this kind, which is taken."""
        from bigtrain.planning.operations import Counter

        with Counter() as counter:
            self.take(kind)
        return counter.flops / 1e9

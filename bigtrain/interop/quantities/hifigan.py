"""HiFi-GAN: how each number of a golden folder is computed, as its README says."""

import copy
import re
from collections.abc import Sequence
from functools import cache, cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.interop.quantities.base import Quantities
from bigtrain.models.hifigan import HiFiGANDiscriminator
from bigtrain.ops.mel import MelSettings, mel_basis

_MEL_WEIGHT, _FEATURE_WEIGHT = 45.0, 2.0
_HALVES = ("MPD", "MSD")


class HiFiGANQuantities(Quantities):
    """Numbers of a vocoder of the sounds `audio`, and of the two halves of its discriminator."""

    inputs = frozenset({"audio"})

    def output(self, name: str) -> Tensor | None:
        """See `Quantities.output`."""
        real = self.given("audio")
        if named := re.fullmatch(r"mel(_basis)?(_for_loss)?", name):
            mel = self._mel(for_loss=bool(named[2]))
            if named[1]:
                return mel_basis(mel.rate, mel.n_fft, mel.bands, mel.low, mel.highest, real.device)
            return mel.spectrogram(real)
        if name == "audio_fake":
            return self.fake
        if named := re.fullmatch(r"features_(MPD|MSD)_(real|fake)", name):
            layers = _layers(self._half(named[1]), real if named[2] == "real" else self.fake)
            return torch.stack([torch.stack([layer.mean(), layer.square().mean().sqrt()]) for layer in layers])
        if named := re.fullmatch(r"logits_(MPD|MSD)_(\d)_(real|fake)", name):
            return _logits(self._half(named[1]), real if named[3] == "real" else self.fake)[int(named[2])]
        if named := re.fullmatch(r"logits_MSD_0_(real|fake)_train", name):
            return self._training[named[1]]
        return None

    def loss(self, name: str) -> Tensor | None:
        """See `Quantities.loss`."""
        match name:
            case "D_total":
                return torch.stack([self._discriminator(half) for half in _HALVES]).sum()
            case "MPD_discriminator" | "MSD_discriminator":
                return self._discriminator(name[:3])
            case "G_mel":
                mel = self._mel(for_loss=True)
                return _MEL_WEIGHT * F.l1_loss(mel.spectrogram(self.fake), mel.spectrogram(self.given("audio")))
            case "G_total":
                parts = [self.loss(part) for part in ("G_adversarial", "G_feature", "G_mel")]
                return torch.stack([part for part in parts if part is not None]).sum()
        if named := re.fullmatch(r"G_(adversarial|feature)(_MPD|_MSD)?", name):
            halves = [named[2][1:]] if named[2] else _HALVES
            compute = self._adversarial if named[1] == "adversarial" else self._feature
            return torch.stack([compute(half) for half in halves]).sum()
        return None

    def _half(self, name: str) -> HiFiGANDiscriminator:
        network = self.network(name)
        assert isinstance(network, HiFiGANDiscriminator)
        return network

    @cache  # noqa: B019 - it lives as long as the check of one folder
    def _mel(self, *, for_loss: bool) -> MelSettings:
        return MelSettings(
            rate=self.setting("sampling_rate"),
            n_fft=self.setting("n_fft"),
            hop=self.setting("hop_size"),
            window=self.setting("win_size"),
            bands=self.setting("num_mels"),
            low=self.setting("fmin"),
            high=self.setting("fmax_for_loss" if for_loss else "fmax"),
        )

    @cached_property
    def fake(self) -> Tensor:
        """G's sounds."""
        sound: Tensor = self.network("G")(self._mel(for_loss=False).spectrogram(self.given("audio")))
        return sound

    @cached_property
    def _training(self) -> dict[str, Tensor]:
        """The first scale's logits in training mode, where each call moves the spectral norms: of reals, then fakes."""
        D = copy.deepcopy(self._half("MSD")).train()
        real = _logits(D, self.given("audio"))[0]
        return {"real": real, "fake": _logits(D, self.fake)[0]}

    def _discriminator(self, half: str) -> Tensor:
        D = self._half(half)
        real, fake = _logits(D, self.given("audio")), _logits(D, self.fake.detach())
        return _sum([(1 - logits).square().mean() for logits in real] + [logits.square().mean() for logits in fake])

    def _adversarial(self, half: str) -> Tensor:
        return _sum([(1 - logits).square().mean() for logits in _logits(self._half(half), self.fake)])

    def _feature(self, half: str) -> Tensor:
        D = self._half(half)
        layers = zip(_layers(D, self.given("audio")), _layers(D, self.fake), strict=True)
        return _FEATURE_WEIGHT * _sum([F.l1_loss(fake, real) for real, fake in layers])


def _sum(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).sum()


def _logits(network: HiFiGANDiscriminator, sound: Tensor) -> Sequence[Tensor]:
    """Return the logits of each part."""
    return torch.split(network(sound), list(network.opinions), dim=1)


def _layers(network: HiFiGANDiscriminator, sound: Tensor) -> list[Tensor]:
    """Return the activations and the logits of each part, part after part."""
    *layers, logits = network.features(sound)
    each = len(layers) // len(network.opinions)
    found: list[Tensor] = []
    for number, own in enumerate(torch.split(logits, list(network.opinions), dim=1)):
        found += [*layers[number * each : (number + 1) * each], own]
    return found

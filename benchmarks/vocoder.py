"""Compare vocoders on held-out sounds: HiFi-GAN's snapshots, and what needs no training, from the same spectrograms.

    python -m benchmarks.vocoder TEST_SET [SNAPSHOT ...]

Of each it prints two distances between the real sounds and those made of their spectrograms, the mean over the sounds
with its standard error: of log-mel spectrograms at another resolution than the networks are trained with, and of log
magnitudes in three resolutions (Yamamoto et al. 2020, Parallel WaveGAN, equation 6).
"""

import argparse
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from bigtrain.core.rng import Draws
from bigtrain.generate.snapshot import load_snapshot
from bigtrain.ops.mel import MelSettings, mel_basis
from data_pipelines.read import ShardDataset

MEL = MelSettings(rate=8000, n_fft=256, hop=64, window=256, bands=40)
OTHER_MEL = MelSettings(rate=8000, n_fft=512, hop=128, window=512, bands=64)
RESOLUTIONS = ((512, 128), (256, 64), (128, 32))
ROUNDS = 64
"""Of Griffin-Lim; librosa's default is 32."""


def griffin_lim(mel: Tensor, samples: int, rounds: int = ROUNDS) -> Tensor:
    """Find a sound with a mel spectrogram (Griffin & Lim 1984), from random phases; shape [N, 1, samples]."""
    basis = mel_basis(MEL.rate, MEL.n_fft, MEL.bands, MEL.low, MEL.highest, mel.device)
    magnitude = (torch.linalg.pinv(basis) @ mel.exp()).clamp(min=0)
    window, margin = torch.hann_window(MEL.window), (MEL.n_fft - MEL.hop) // 2
    whole = samples + 2 * margin

    def sound_of(bins: Tensor) -> Tensor:
        frames = torch.fft.irfft(bins, dim=1) * window[:, None]
        places = {"output_size": (1, whole), "kernel_size": (1, MEL.n_fft), "stride": (1, MEL.hop)}
        weight = F.fold(window.square()[None, :, None].expand_as(frames), **places)
        return F.fold(frames, **places)[:, 0, 0] / weight[:, 0, 0].clamp(min=1e-8)

    phase = 2 * math.pi * torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(0))
    bins = torch.polar(magnitude, phase)
    for _ in range(rounds):
        again = torch.stft(sound_of(bins), MEL.n_fft, MEL.hop, window=window, center=False, return_complex=True)
        bins = torch.polar(magnitude, again.angle())
    return sound_of(bins)[:, None, margin : margin + samples].clamp(-1, 1)


def distances(made: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Return both distances of each sound, shape [N]."""
    mel = (OTHER_MEL.spectrogram(made) - OTHER_MEL.spectrogram(real)).abs().mean((1, 2))
    spectra = []
    for n_fft, hop in RESOLUTIONS:
        window = torch.hann_window(n_fft)
        one, other = (torch.stft(x[:, 0], n_fft, hop, window=window, return_complex=True).abs() for x in (made, real))
        spectra.append((one.clamp(min=1e-4).log() - other.clamp(min=1e-4).log()).abs().mean((1, 2)))
    return {"mel": mel, "spectra": torch.stack(spectra).mean(0)}


def main() -> None:
    """Print a line for each vocoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("test_set", help="a prepared set of sounds that no vocoder was trained on")
    parser.add_argument("snapshots", nargs="*")
    options = parser.parse_args()
    dataset = ShardDataset(options.test_set)
    stored = dataset.read(list(dataset.locations()), ["audio"])["audio"]
    real = torch.from_numpy(stored).float() / 32768
    mel = MEL.spectrogram(real)
    print(f"{len(real)} sounds of {real.shape[2]} samples")
    vocoders = {
        "random phases": griffin_lim(mel, real.shape[2], 0),
        "Griffin-Lim": griffin_lim(mel, real.shape[2]),
    }
    for folder in options.snapshots:
        snapshot = load_snapshot(folder)
        (source,) = snapshot.sampler.inputs
        with torch.inference_mode():
            made = [
                next(
                    iter(
                        snapshot.sampler(snapshot.networks, {source: part}, Draws(0, torch.arange(len(part)))).values()
                    )
                )
                for part in mel.split(16)
            ]
        vocoders[folder] = torch.cat(made)
    for name, made in vocoders.items():
        told = (
            f"{key} {value.mean():.3f} ± {value.std() / len(value) ** 0.5:.3f}"
            for key, value in distances(made, real).items()
        )
        print(f"{name}: {', '.join(told)}")


if __name__ == "__main__":
    main()

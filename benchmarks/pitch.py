"""Find the pitch of notes without a network: which of twelve pitches their autocorrelation fits best.

    python -m benchmarks.pitch TEST_SET SNAPSHOT [SNAPSHOT ...]

The set is one of notes as `scripts/notes.py` writes them, whose classes are the pitches C to B of the octave of middle
C. It prints the share of real notes, and of 240 generated notes of each snapshot, whose pitch is that of their class: a
probe may be content with spectrograms in which nobody hears a pitch.
"""

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor

from bigtrain.core.rng import Draws
from bigtrain.generate.snapshot import load_snapshot
from data_pipelines.read import ShardDataset
from scripts.notes import PITCHES

_MIDDLE_C = 261.63
_PERIODS = 4
"""How many periods of a pitch the autocorrelation is summed over."""
_COUNT = 240


def pitches(sounds: Tensor, rate: float) -> Tensor:
    """Return the numbers of the best pitches, from C on, of sounds [N, L]; their first and last parts are left out."""
    middle = sounds[:, sounds.shape[1] // 8 : -sounds.shape[1] // 4]
    middle = middle - middle.mean(1, keepdim=True)
    size = 2 * sounds.shape[1]
    correlation = torch.fft.irfft(torch.fft.rfft(middle, n=size).abs().square(), n=size)
    scores = []
    for number in range(len(PITCHES)):
        delays = torch.arange(1, _PERIODS + 1) * rate / (_MIDDLE_C * 2 ** (number / 12))
        below = delays.long()
        scores.append(correlation[:, below].lerp(correlation[:, below + 1], delays - below).sum(1))
    return torch.stack(scores, dim=1).argmax(1)


def share(sounds: Tensor, rate: float, label: Tensor, classes: Sequence[str]) -> str:
    """Return how many sounds have the pitch of their class, with the standard error, in words."""
    asked = torch.tensor([PITCHES.index(classes[one]) for one in label.tolist()])
    right = float((pitches(sounds, rate) == asked).float().mean())
    return f"{right:.3f} ± {(right * (1 - right) / len(asked)) ** 0.5:.3f}"


def main() -> None:
    """Print a line for the set and for each snapshot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("test_set")
    parser.add_argument("snapshots", nargs="+")
    options = parser.parse_args()
    dataset = ShardDataset(options.test_set)
    rate = dataset.manifest.fields["audio"].rate
    assert rate is not None
    stored = dataset.read(list(dataset.locations()), ["audio", "class"])
    real, label = torch.from_numpy(stored["audio"]).float() / 32768, torch.from_numpy(stored["class"])
    print(f"real: {share(real[:, 0], rate, label, dataset.manifest.classes)}")
    for folder in options.snapshots:
        snapshot = load_snapshot(folder)
        label = torch.arange(_COUNT) % len(snapshot.class_names)
        with torch.inference_mode():
            made = snapshot.sampler(snapshot.networks, {"class": label}, Draws(0, torch.arange(_COUNT)))
        (sounds,) = made.values()
        print(f"{folder}: {share(sounds[:, 0], rate, label, snapshot.class_names)}")


if __name__ == "__main__":
    main()

"""Score predicted frames on clips that no network has seen, beside two baselines that are not networks.

    python -m benchmarks.frame_prediction TEST_SET PROBE SNAPSHOT [SNAPSHOT ...] [--picture FILE]

Each network predicts the frames of a clip behind the given ones. It is compared with the last given frame, repeated,
and with the given frames, played backwards and forwards. Of each it prints the peak signal-to-noise ratio of the
predicted frames (mean over the clips with its standard error), and for the whole clips, given frames included, the
Fréchet distance in the probe's features from the real clips and the share whose class the probe recognises. A picture
has a row for each of some clips: the real one, and below it each prediction.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bigtrain.core.rng import Draws
from bigtrain.evaluation.metrics.fid import frechet_distance_of
from bigtrain.evaluation.probes.file import read_probe
from bigtrain.generate.snapshot import load_snapshot
from data_pipelines.read import ShardDataset

_BATCH = 16
_SHOWN = 6


def predictions(folder: str, real: Tensor) -> tuple[Tensor, int]:
    """Return what a snapshot predicts behind the first frames of clips in [-1, 1], and how many it is given."""
    snapshot = load_snapshot(folder)
    (source,) = snapshot.sampler.inputs
    given = snapshot.sampler.inputs[source].shape[0]
    made = []
    with torch.inference_mode():
        for start in range(0, len(real), _BATCH):
            part = real[start : start + _BATCH, :given]
            draws = Draws(0, torch.arange(start, start + len(part)))
            made += list(snapshot.sampler(snapshot.networks, {source: part}, draws).values())
    return torch.cat(made), given


def main() -> None:
    """Print a line for each prediction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("test_set", help="a prepared set of videos")
    parser.add_argument("probe", type=Path)
    parser.add_argument("snapshots", nargs="+")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    dataset = ShardDataset(options.test_set)
    stored = dataset.read(list(dataset.locations()), ["video", "class"])
    real, label = torch.from_numpy(stored["video"]).float() / 127.5 - 1, torch.from_numpy(stored["class"])
    probe, _ = read_probe(options.probe)
    found = {folder: predictions(folder, real) for folder in options.snapshots}
    if len(lengths := {(given, clips.shape[1]) for clips, given in found.values()}) > 1:
        parser.error(f"the snapshots are given and predict different numbers of frames: {sorted(lengths)}")
    ((given, count),) = lengths
    made = {folder: clips for folder, (clips, _) in found.items()}
    whole = real[:, : given + count]
    back_and_forth = [*range(given), *range(given - 2, 0, -1)]
    order = [back_and_forth[place % len(back_and_forth)] for place in range(given, given + count)]
    made = {
        "the last frame": real[:, given - 1 : given].expand(-1, count, -1, -1, -1),
        "there and back": real[:, order],
        **made,
    }

    def features_of(clips: Tensor) -> tuple[Tensor, float]:
        with torch.inference_mode():
            levels = ((clips + 1) * 127.5).round().clamp(0, 255).byte()
            pooled = torch.cat([probe.pool(probe.input_of(part)) for part in levels.split(_BATCH)])
            return pooled, float((probe.classify(pooled).argmax(1) == label).float().mean())

    reference, recognised = features_of(whole)
    print(
        f"{len(real)} clips, {count} frames behind {given} given ones; {recognised:.3f} of the real ones are recognised"
    )
    for name, frames in made.items():
        error = (frames - whole[:, given:]).square().flatten(1).mean(1)
        psnr = 10 * torch.log10(4 / error)
        features, recognised = features_of(torch.cat([whole[:, :given], frames], dim=1))
        distance = frechet_distance_of(reference, features)
        spread = float(psnr.std()) / len(psnr) ** 0.5
        scores = f"PSNR {psnr.mean():.2f} ± {spread:.2f}, Fréchet distance {distance:.2f}, recognised {recognised:.3f}"
        print(f"{name}: {scores}")
    if options.picture:
        places = torch.linspace(0, len(real) - 1, _SHOWN).long()
        rows = [torch.cat([whole[:, :given], clips], dim=1)[places] for clips in (whole[:, given:], *made.values())]
        sheet = torch.stack(rows, dim=1).flatten(0, 1).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
        Image.fromarray(((sheet + 1) * 127.5).clamp(0, 255).numpy().astype(np.uint8)).save(options.picture)


if __name__ == "__main__":
    main()

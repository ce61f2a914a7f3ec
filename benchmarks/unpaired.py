"""What CycleGAN learns: cycle errors, and how near outputs come to the true partner, of which training never heard.

    .venv/bin/python benchmarks/unpaired.py SNAPSHOT... [--picture PNG]

The arguments are snapshots of `configs/cyclegan-emoji64.yaml`. The test pairs are the concepts of the split `test`, of
which both domains have a picture, prepared here. Distances are the mean |x| of images in [-1, 1] and `perceptual` on
EfficientNet-Lite0. The picture shows the last snapshot: A, A to B, the partner, and that one B to A.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from torch import Tensor

import bigtrain as bt
from bigtrain.evaluation.distances import FeatureDistance, build_distance
from data_pipelines.prepare import emoji
from data_pipelines.prepare.run import PrepareOptions, prepare
from data_pipelines.read import ShardDataset

_SHOWN = (0, 40, 80, 120, 160, 200, 240, 280)


def partners(folder: Path) -> tuple[Tensor, Tensor]:
    """Return the pictures of the same concepts in both domains, in [-1, 1]."""
    found: list[dict[str, Tensor]] = []
    for name, source in (("A", emoji.flat("test")), ("B", emoji.solid("test"))):
        prepare(source, folder / name, PrepareOptions(seed=None))
        dataset = ShardDataset(folder / name)
        fields = dataset.read(list(dataset.locations()), ["image"])
        names = [item.name.split()[0] for item in source.items]
        found.append(dict(zip(names, torch.from_numpy(fields["image"]).float() / 127.5 - 1, strict=True)))
    both = [name for name in found[0] if name in found[1]]
    A, B = (torch.stack([domain[name] for name in both]) for domain in found)
    return A, B


def distances(perceptual: FeatureDistance, ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """Return the mean |x| between images, and the mean perceptual distance."""
    pairs = zip(ours.split(32), theirs.split(32), strict=True)
    return float((ours - theirs).abs().mean()), float(torch.cat([perceptual(*pair) for pair in pairs]).mean())


@torch.inference_mode()
def main() -> None:
    """Print the distances of all snapshots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("snapshots", nargs="+", metavar="SNAPSHOT")
    parser.add_argument("--picture", type=Path, help="PNG to write.")
    given = parser.parse_args()
    perceptual = build_distance("perceptual", torch.device("cpu"))
    with TemporaryDirectory() as folder:
        A, B = partners(Path(folder))
    print(f"{len(A)} concepts")
    print("the input itself: {:.3f}, perceptual {:.2f}".format(*distances(perceptual, A, B)))
    print("beside another concept: {:.3f}, perceptual {:.2f}".format(*distances(perceptual, A, B.roll(1, 0))))
    for place in given.snapshots:
        loaded = bt.load(place)
        to_B, to_A = loaded.apply(A, output="B.image", batch=32), loaded.apply(B, output="A.image", batch=32)
        cycles = [
            float((loaded.apply(made, output=output, batch=32) - start).abs().mean())
            for made, output, start in ((to_B, "A.image", A), (to_A, "B.image", B))
        ]
        print(f"{place}: cycle A to B to A {cycles[0]:.3f}, B to A to B {cycles[1]:.3f}")
        print(
            "  A to B, to the partner: {:.3f}, perceptual {:.2f}".format(*distances(perceptual, to_B.clamp(-1, 1), B))
        )
        print(
            "  B to A, to the partner: {:.3f}, perceptual {:.2f}".format(*distances(perceptual, to_A.clamp(-1, 1), A))
        )
    if given.picture:
        rows = [torch.cat([one[row] for one in (A, to_B, B, to_A)], 2) for row in _SHOWN if row < len(A)]
        pairs = [torch.cat(rows[start : start + 2], 2) for start in range(0, len(rows) - 1, 2)]
        picture = ((torch.cat(pairs, 1).clamp(-1, 1) + 1) * 127.5).round().byte()
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(given.picture)


if __name__ == "__main__":
    main()

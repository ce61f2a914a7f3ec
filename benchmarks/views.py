"""Whether generated objects look alike from all sides, and are seen from where they should be.

    .venv/bin/python benchmarks/views.py SNAPSHOT... --meshes MESHES [--picture PNG]

The arguments are snapshots of `configs/synthesis/eg3d-solids64.yaml`; MESHES is a folder of other solids than those of
the training (`python scripts/solids.py MESHES --meshes --each 40 --seed 1`). Three things are measured:

* Outlines of opposite views: seen from the other side, the outline of an object is nearly its mirror image. The
  intersection of both over their union is given for meshes, for samples, and for samples with the view of another seed.
* The pitch that a small network reads off a picture, which was trained on the meshes' pictures and is given its error
  on half of the meshes that it has not seen.
* Classes of the solids among the samples, by a network that was trained likewise: the share of each.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import bigtrain as bt
from bigtrain.generate.snapshot import Snapshot
from data_pipelines.prepare.mesh import Mesh, read_mesh
from data_pipelines.prepare.rasterise import render

_SIDE, _SAMPLES, _VIEWS, _STEPS = 64, 200, 3, 250
_SHOWN = np.linspace(-np.pi, np.pi, 8, endpoint=False)


def pictures_of(meshes: list[Mesh], poses: np.ndarray) -> Tensor:
    """Return a picture a mesh from a pose each, in [-1, 1]."""
    rendered = [render(mesh, pose, _SIDE, _SIDE) for mesh, pose in zip(meshes, poses, strict=True)]
    return torch.from_numpy(np.stack(rendered)).float() / 127.5 - 1


def outline(images: Tensor) -> Tensor:
    """Return what is not white, bool, shape [N, H, W]."""
    return images.amin(1) < 0.8


def overlap(front: Tensor, back: Tensor) -> str:
    """Return the intersection over union of outlines with mirrored ones from the opposite side, as words."""
    ours, theirs = outline(front), outline(back).flip(2)
    share = (ours & theirs).sum((1, 2)) / (ours | theirs).sum((1, 2)).clamp(min=1)
    return f"{share.mean():.3f} ± {1.96 * share.std() / len(share) ** 0.5:.3f}"


@torch.inference_mode()
def samples_of(snapshot: Snapshot, poses: np.ndarray) -> Tensor:
    """Return a sample a seed, from a pose each."""
    draws = snapshot.draws(torch.arange(len(poses)))
    made = snapshot.sampler(snapshot.networks, {"pose": torch.from_numpy(poses).float()}, draws)
    return made["image"].clamp(-1, 1)


def reader_of(images: Tensor, pitch: Tensor, label: Tensor, classes: int) -> nn.Module:
    """Train a network that reads pitch and class off pictures; its outputs are the pitch and logits."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for channels, out in ((3, 16), (16, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(channels, out, 3, 2, 1), nn.GroupNorm(4, out), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * (_SIDE // 16) ** 2, 1 + classes))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(_STEPS):
        rows = torch.randint(len(images), (64,))
        found = network(images[rows] + 0.1 * torch.randn_like(images[rows]))
        loss = F.mse_loss(found[:, 0], pitch[rows]) * 10 + F.cross_entropy(found[:, 1:], label[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def main() -> None:
    """Print all numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("snapshots", nargs="+", metavar="SNAPSHOT")
    parser.add_argument("--meshes", type=Path, required=True)
    parser.add_argument("--picture", type=Path, help="PNG to write: a row a seed of the last snapshot, turned.")
    given = parser.parse_args()
    files = sorted(given.meshes.glob("*/*.ply"))
    names = sorted({file.parent.name for file in files})
    meshes = [read_mesh(file.read_bytes(), "ply") for file in files]
    random = np.random.default_rng(0)
    poses = random.uniform([-np.pi, -0.5], [np.pi, 0.5], (len(meshes) * _VIEWS, 2))
    images = pictures_of([mesh for mesh in meshes for _ in range(_VIEWS)], poses)
    pitch = torch.from_numpy(poses[:, 1]).float()
    label = torch.tensor([names.index(file.parent.name) for file in files for _ in range(_VIEWS)])
    known = (torch.arange(len(images)) // _VIEWS) % 2 == 0
    reader = reader_of(images[known], pitch[known], label[known], len(names))

    def read(seen: Tensor, asked: Tensor) -> tuple[str, Tensor]:
        with torch.inference_mode():
            found = reader(seen)
        error = (found[:, 0] - asked).abs()
        return f"{error.mean():.3f} ± {1.96 * error.std() / len(error) ** 0.5:.3f}", found[:, 1:].argmax(1)

    words, classes = read(images[~known], pitch[~known])
    right = (classes == label[~known]).float().mean()
    print(f"meshes: error of the pitch {words}, of always the mean {pitch[~known].abs().mean():.3f}")
    print(f"meshes: {right:.3f} of the classes are recognised")
    yaw = random.uniform(-np.pi, np.pi, len(meshes))
    there = pictures_of(meshes, np.stack([yaw, 0 * yaw], axis=1))
    behind = pictures_of(meshes, np.stack([yaw + np.pi, 0 * yaw], axis=1))
    print(f"meshes: outlines of opposite views {overlap(there, behind)}, of others {overlap(there, behind.roll(1, 0))}")
    for place in given.snapshots:
        snapshot = bt.load(place).snapshot
        angles = random.uniform([-np.pi, -0.5], [np.pi, 0.5], (_SAMPLES, 2))
        level = np.stack([angles[:, 0], 0 * angles[:, 0]], axis=1)
        made, front, back = (samples_of(snapshot, poses) for poses in (angles, level, level + np.array([np.pi, 0])))
        words, classes = read(made, torch.from_numpy(angles[:, 1]).float())
        shares = ", ".join(f"{name} {(classes == number).float().mean():.2f}" for number, name in enumerate(names))
        print(f"{place}: error of the pitch {words}; {shares}")
        print(
            f"{place}: opposite views {overlap(front, back)}, of others {overlap(front, back.roll(1, 0))}", flush=True
        )
    if given.picture:
        rows = [torch.cat(list(snapshot.sample(range(6), condition=[turn, 0.3])), 1) for turn in _SHOWN]
        picture = ((torch.cat(rows, 2).clamp(-1, 1) + 1) * 127.5).round().byte()
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(given.picture)


if __name__ == "__main__":
    main()

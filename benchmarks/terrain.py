"""Whether a discriminator pays in a classifier's eyes: the FCN-score of pix2pix (Isola et al. 2017, section 4.1).

    .venv/bin/python benchmarks/terrain.py WITH_D... --without L1_ALONE...

The arguments are snapshots of `configs/translation/pix2pix-earth64.yaml`, one a seed and in the same order. A
classifier learns on real satellite pictures what terrain each place shows, and is then asked about made pictures: it
should find the terrain that they were made from. The labels are those of the input, the coloured relief: each cell of
4x4 pixels has one of five classes of land, the clusters (k-means) of the mean colours of the cells of the training
relief; cells of water are left out, since every network copies the coast. The classifier is a multinomial logistic
regression on EfficientNet-Lite0's activations from 1/2 to 1/16 of the resolution, brought to the 16x16 cells, and
learns on 32 cells of each training tile. As in the paper's table 1 the scores are the share of cells with the right
class, its mean over classes, and the intersection over union, mean over classes. The held-out places are bands of
longitude of their own.

A second classifier is asked about whole tiles: which of six kinds of cover, the clusters of the mean and the deviation
of L*, a* and b* of real training tiles, a tile shows. The label is that of the true picture; the classifier is the same
on the mean activations of all five depths.
"""

import argparse
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import scipy.cluster.vq
import torch
import torch.nn.functional as F
from torch import Tensor
from translation import CPU, normalised, pixels_of, print_differences, shown

import bigtrain as bt
from bigtrain.models.pretrained import FeatureMaps, feature_maps
from bigtrain.ops.colour import lab_of
from data_pipelines.prepare import earth
from data_pipelines.prepare.run import PrepareOptions, prepare
from data_pipelines.read import ShardDataset

CLASSES, CELLS, CELLS_LEARNT = 5, 16, 32
COVERS = 6
_DEPTHS = 4
_PENALTY, _COVER_PENALTY = 1e-3, 1e-2


class Seen(NamedTuple):
    """What the classifiers see of pictures: of each cell [N, CELLS, CELLS, F], of each tile [N, F']."""

    cells: Tensor
    tiles: Tensor


class Pairs(NamedTuple):
    """Relief and satellite pictures of the same places, uint8, each [N, 3, 64, 64]."""

    relief: Tensor
    satellite: Tensor


def pairs_of(split: str) -> Pairs:
    """Return the places of a split."""
    with TemporaryDirectory() as folder:
        prepare(earth.relief(split), Path(folder) / "earth", PrepareOptions(seed=None))
        dataset = ShardDataset(Path(folder) / "earth")
        fields = dataset.read(list(dataset.locations()), ["input", "target"])
    return Pairs(torch.from_numpy(fields["input"]), torch.from_numpy(fields["target"]))


def cells_of(relief: Tensor) -> Tensor:
    """Return the mean colours of cells, in [0, 1], shape [N, CELLS, CELLS, 3]."""
    return F.adaptive_avg_pool2d(relief.float() / 255, CELLS).permute(0, 2, 3, 1)


def is_land(colours: Tensor) -> Tensor:
    """Whether cells are land: water is painted blue."""
    return colours[..., 2] <= colours[..., 0]


def terrains(relief: Tensor) -> Tensor:
    """Return the colours of the classes of land, shape [CLASSES, 3], from dark to light."""
    colours = cells_of(relief)
    centres, _ = scipy.cluster.vq.kmeans2(colours[is_land(colours)].numpy(), CLASSES, iter=50, minit="++", seed=0)
    found = torch.from_numpy(centres)
    return found[found.sum(1).argsort()]


def labels_of(relief: Tensor, classes: Tensor) -> Tensor:
    """Return the class of each cell, shape [N, CELLS, CELLS]; -1 for water."""
    colours = cells_of(relief)
    nearest = torch.cdist(colours.flatten(0, 2), classes).argmin(1).reshape(colours.shape[:3])
    return torch.where(is_land(colours), nearest, -1)


def statistics_of(pictures: Tensor) -> Tensor:
    """Return the mean and the deviation of L*, a* and b* of uint8 tiles, shape [N, 6]."""
    colours = lab_of(pictures.float() / 127.5 - 1).flatten(2)
    return torch.cat([colours.mean(2), colours.std(2)], 1)


@torch.no_grad()
def features_of(network: FeatureMaps, pictures: Tensor) -> Seen:
    """Return what the classifiers see of uint8 pictures."""
    cells, tiles = [], []
    for part in pictures.split(64):
        maps = [one.float() for one in network(part.float() / 127.5 - 1)]
        same = [F.interpolate(one, size=(CELLS, CELLS), mode="bilinear", antialias=True) for one in maps[:_DEPTHS]]
        cells.append(torch.cat(same, 1).permute(0, 2, 3, 1))
        tiles.append(torch.cat([one.mean((2, 3)) for one in maps], 1))
    return Seen(torch.cat(cells), torch.cat(tiles))


class Classifier:
    """A multinomial logistic regression on standardised features, with a penalty on the squared weights.

    Args:
        features: shape [M, F].
        labels: shape [M].
        classes: how many labels there are.
        penalty: factor of the squared weights.
    """

    def __init__(self, features: Tensor, labels: Tensor, classes: int, penalty: float) -> None:
        self.mean, self.deviation = features.mean(0), features.std(0) + 1e-6
        x = (features - self.mean) / self.deviation
        self.weight = torch.zeros(x.shape[1], classes, requires_grad=True)
        self.bias = torch.zeros(classes, requires_grad=True)
        optimizer = torch.optim.LBFGS([self.weight, self.bias], max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            found = F.cross_entropy(x @ self.weight + self.bias, labels) + penalty * self.weight.square().sum()
            found.backward()
            return found

        optimizer.step(loss)

    @torch.no_grad()
    def __call__(self, features: Tensor) -> Tensor:
        """Return classes, [M], of features [M, F]."""
        return ((features - self.mean) / self.deviation @ self.weight + self.bias).argmax(1)


def scores(found: Tensor, labels: Tensor) -> dict[str, float]:
    """Compare classes with labels, each [M]."""
    right, per_class, unions = found == labels, [], []
    for one in range(CLASSES):
        per_class.append(float(right[labels == one].double().mean()))
        unions.append(float((right & (labels == one)).sum() / ((found == one) | (labels == one)).sum()))
    return {
        "accuracy": float(right.double().mean()),
        "class accuracy": statistics.mean(per_class),
        "class IoU": statistics.mean(unions),
    }


def segmenter_of(seen: Tensor, labels: Tensor) -> Classifier:
    """Train the classifier of cells on those of real pictures, [N, CELLS, CELLS, …] both."""
    features, labels = seen.flatten(1, 2), labels.flatten(1)
    chance = torch.Generator().manual_seed(0)
    some = torch.rand(labels.shape, generator=chance).argsort(1)[:, :CELLS_LEARNT]
    chosen = labels.gather(1, some)
    learnt = features.gather(1, some[..., None].expand(-1, -1, features.shape[2]))
    return Classifier(learnt[chosen >= 0], chosen[chosen >= 0], CLASSES, _PENALTY)


class Covers:
    """The kinds of cover of tiles, from real ones, uint8."""

    def __init__(self, pictures: Tensor) -> None:
        found = statistics_of(pictures)
        self._mean, self._deviation = found.mean(0), found.std(0)
        x = (found - self._mean) / self._deviation
        centres, _ = scipy.cluster.vq.kmeans2(x.numpy(), COVERS, iter=50, minit="++", seed=0)
        self._centres = torch.from_numpy(centres)

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return the kind of each tile, shape [N]."""
        return torch.cdist((statistics_of(pictures) - self._mean) / self._deviation, self._centres).argmin(1)


class Labellers:
    """Both classifiers, which learnt on real pictures, and what the held-out places show."""

    def __init__(self, train: Pairs, test: Pairs) -> None:
        self._network = feature_maps("efficientnet-lite0")
        self._network.load(CPU)
        self.classes, covers = terrains(train.relief), Covers(train.satellite)
        real = features_of(self._network, train.satellite)
        self._segmenter = segmenter_of(real.cells, labels_of(train.relief, self.classes))
        self._of_tiles = Classifier(real.tiles, covers(train.satellite), COVERS, _COVER_PENALTY)
        self.labels, self.kinds = labels_of(test.relief, self.classes), covers(test.satellite)

    def scores_of(self, pictures: Tensor) -> dict[str, float]:
        """Return how often the classifiers find in pictures of the held-out places, uint8, what the places show."""
        seen, land = features_of(self._network, pictures), self.labels >= 0
        found = scores(self._segmenter(seen.cells[land]), self.labels[land])
        return {**found, "cover": float((self._of_tiles(seen.tiles) == self.kinds).double().mean())}

    def __str__(self) -> str:
        land = self.labels[self.labels >= 0]
        shares = torch.bincount(land, minlength=CLASSES) / len(land)
        colours = (255 * self.classes).round().int().tolist()
        return (
            f"colours of the classes {colours} shares {[f'{share:.3f}' for share in shares]}\n"
            f"tiles of each cover {torch.bincount(self.kinds, minlength=COVERS).tolist()}"
        )


def main() -> None:
    """Print a table of all snapshots, and the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("with_d", nargs="+", metavar="WITH_D")
    parser.add_argument("--without", nargs="+", required=True, metavar="L1_ALONE")
    given = parser.parse_args()
    train, test = pairs_of("train"), pairs_of("test")
    labellers = Labellers(train, test)
    print(labellers)
    print("real pictures", shown(labellers.scores_of(test.satellite)), flush=True)

    def scores_of_snapshot(snapshot: str) -> dict[str, float]:
        made = bt.load(snapshot).apply(normalised(test.relief), batch=32)
        found = labellers.scores_of(pixels_of(made))
        print(snapshot, shown(found), flush=True)
        return found

    ours, theirs = ([scores_of_snapshot(one) for one in these] for these in (given.with_d, given.without))
    print_differences(ours, theirs, "with D, without")


if __name__ == "__main__":
    main()

"""Train a probe on a dataset's training part, and measure it on samples that it has not seen."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from bigtrain.core.config import Config
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.images.shards import ShardImages
from bigtrain.evaluation.probes.file import About
from bigtrain.evaluation.probes.network import ProbeNetwork
from bigtrain.evaluation.probes.self_supervision import OUTPUTS, contrastive_loss, recognised
from data_pipelines.manifest import CLASS, Manifest
from data_pipelines.read import ShardDataset

_STANDARDISED = 256
"""Samples whose mean and deviation the input is standardised by."""

_COMPARED = 32
"""Samples that a probe without classes has to tell apart."""

_MIXUP = 0.2
"""Both parameters of mixup's beta distribution."""

Report = Callable[[int, float], None]
"""Told the epoch, counted from 1, and its mean loss."""


class ProbeSettings(Config):
    """What `bigtrain probe train DATASET` does.

    Attributes:
        dataset: folder of shards; without classes, the probe learns to recognise a sample although parts of it
            are removed.
        held_out: folder of shards that the accuracy is measured on; null to hold out a part of the dataset.
        field: that the probe looks at; null for the only one that is no class.
        share: of the dataset that is held out where no set of its own is given.
        epochs: passes over the training samples.
        batch: samples a step.
        lr: the largest learning rate of a cycle that begins and ends near zero.
        seed: of the weights, the order and the mixtures.
    """

    dataset: Path
    held_out: Path | None = None
    field: str | None = None
    share: float = Field(0.2, gt=0, lt=1)
    epochs: PositiveInt = 30
    batch: PositiveInt = 32
    lr: PositiveFloat = 3e-3
    seed: NonNegativeInt = 0


class Samples:
    """Some samples of a dataset: fields as they are stored, and classes.

    Args:
        images: of the whole set.
        numbers: which of them.
        labelled: whether they have classes.
    """

    def __init__(self, images: ShardImages, numbers: Tensor, *, labelled: bool) -> None:
        self._images, self._numbers, self.labelled = images, numbers, labelled

    def __len__(self) -> int:
        """Count them."""
        return len(self._numbers)

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all samples, in an order of their places, as fields [n, …] and classes [n]."""
        places = torch.arange(len(self)) if order is None else order
        for rows in places.split(size):  # type: ignore[no-untyped-call]
            yield self._images.read(self._numbers[rows])


def train_probe(
    settings: ProbeSettings, device: torch.device, report: Report = lambda epoch, loss: None
) -> tuple[ProbeNetwork, About]:
    """Train a probe.

    Args:
        settings: of what, how.
        device: where.
        report: told after every epoch.

    Raises:
        EvaluationError: the set has no field that a probe looks at, or the sets do not fit each other.
        DataError: a set is missing or damaged.
    """
    dataset = ShardDataset(settings.dataset)
    field = field_of(dataset.manifest, settings.field, settings.dataset)
    if not dataset.manifest.classes and settings.batch == 1:
        raise EvaluationError(
            f"{settings.dataset}: has no classes, so that samples are compared: use a batch of 2 or more"
        )
    train, test, held_out = _parts(dataset, field, settings)
    spec, classes = dataset.manifest.fields[field], dataset.manifest.classes
    torch.manual_seed(settings.seed)
    network = ProbeNetwork(spec, len(classes) or OUTPUTS).to(device)
    some, _ = next(train.batches(_STANDARDISED))
    network.standardise_for(some.to(device))
    _fit(network, train, settings, device, report)
    accuracy = accuracy_of(network.eval(), test, device, settings.batch)
    about = About(
        field,
        spec,
        classes,
        dataset.manifest.digest,
        held_out,
        accuracy,
        len(train),
        len(test),
        settings.seed,
        settings.epochs,
    )
    return network, about


def field_of(manifest: Manifest, asked: str | None, place: Path) -> str:
    """Return the name of the field that a probe looks at.

    Raises:
        EvaluationError: there is none of this name, or several.
    """
    fields = [name for name, spec in manifest.fields.items() if spec.kind not in ("class", "classes", "text")]
    if asked is None and len(fields) == 1:
        return fields[0]
    if asked not in fields:
        what = f"has no field '{asked}' that a probe can read" if asked else "has several fields"
        raise EvaluationError(f"{place}: {what}: choose one of {', '.join(fields)} with --field")
    return asked


def _parts(dataset: ShardDataset, field: str, settings: ProbeSettings) -> tuple[Samples, Samples, str]:
    """Return the samples to train on and those to measure on, and the digest of the set of the latter."""
    images = ShardImages(dataset, field=field)
    count, labelled = len(images), bool(dataset.manifest.classes)
    if settings.held_out is None:
        kept = max(1, round(count * (1 - settings.share)))
        if kept == count:
            raise EvaluationError(f"{settings.dataset}: {count} samples are too few to hold some of them out")
        numbers = torch.arange(count)  # of a random order that is always the same
        parts = (Samples(images, part, labelled=labelled) for part in (numbers[:kept], numbers[kept:]))
        return next(parts), next(parts), dataset.manifest.digest
    other = ShardDataset(settings.held_out)
    ours, theirs = dataset.manifest, other.manifest
    if theirs.fields.get(field) != ours.fields[field]:
        raise EvaluationError(
            f"{settings.held_out}: its field '{field}' has another kind, shape or type than that of {settings.dataset}"
        )
    if theirs.fields.get(CLASS) != ours.fields.get(CLASS):
        raise EvaluationError(f"{settings.held_out}: has other classes than {settings.dataset}")
    all_of = (images, ShardImages(other, field=field))
    parts = (Samples(part, torch.arange(len(part)), labelled=labelled) for part in all_of)
    return next(parts), next(parts), theirs.digest


def _fit(network: ProbeNetwork, train: Samples, settings: ProbeSettings, device: torch.device, report: Report) -> None:
    """Train with AdamW and a cosine cycle of the learning rate; with classes, with mixup (Zhang et al. 2018)."""
    chance = torch.Generator().manual_seed(settings.seed)
    steps = settings.epochs * math.ceil(len(train) / settings.batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=0.05)
    cycle = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _cycle((step + 1) / (steps + 1)))
    beta = torch.distributions.Beta(_MIXUP, _MIXUP)
    network.train()
    for epoch in range(1, settings.epochs + 1):
        total = 0.0
        order = torch.randperm(len(train), generator=chance)
        for stored, label in train.batches(settings.batch, order):
            if train.labelled:
                loss = _mixed_loss(network, stored.to(device), label.to(device), float(beta.sample()))
            else:
                loss = contrastive_loss(network, stored.to(device), chance)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            cycle.step()
            total += float(loss.detach()) * len(stored)
        report(epoch, total / len(train))


def _cycle(place: float) -> float:
    """Return the factor of the learning rate at a place of the training, 0 to 1: up in the first fifth, then down."""
    return min(place / 0.2, 1.0) * (1 + math.cos(math.pi * place)) / 2


def _mixed_loss(network: ProbeNetwork, stored: Tensor, label: Tensor, share: float) -> Tensor:
    """Return the loss of inputs that are mixed with others of the batch, the last one first."""
    x = network.input_of(stored)
    logits = network(share * x + (1 - share) * x.flip(0))
    return share * F.cross_entropy(logits, label) + (1 - share) * F.cross_entropy(logits, label.flip(0))


@torch.inference_mode()
def accuracy_of(network: ProbeNetwork, samples: Samples, device: torch.device, batch: int) -> float:
    """Return the share of samples whose class a network in evaluation mode tells.

    Without classes, it is the share of samples that it recognises among 32, whatever the batch, of two changed copies
    each; what is left of the set behind the last 32 is not looked at.
    """
    right, seen, chance = 0, 0, torch.Generator().manual_seed(0)
    for stored, label in samples.batches(batch if samples.labelled else _COMPARED):
        if samples.labelled:
            found = network(network.input_of(stored.to(device))).argmax(1)
            right += int((found.cpu() == label).sum())
        elif seen and len(stored) < _COMPARED:
            break
        else:
            right += recognised(network, stored.to(device), chance)
        seen += len(stored)
    return right / seen

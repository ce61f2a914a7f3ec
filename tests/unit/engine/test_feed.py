"""What happens to stored samples on the device, by the random numbers of their positions."""

import torch
from torch import Tensor

from bigtrain.core.rng import Draws
from bigtrain.engine.feed import BatchTransform
from data_pipelines.fields.spec import FieldSpec

COUNT = 1000
SPECS = {
    "image": FieldSpec("image", (1, 1, 2), "uint8"),
    "pair": FieldSpec("image", (1, 1, 2), "uint8"),
    "class": FieldSpec("class", (), "int64", ("a", "b")),
}


def prepared(transform: BatchTransform) -> dict[str, Tensor]:
    images = torch.arange(COUNT * 2, dtype=torch.uint8).reshape(COUNT, 1, 1, 2)
    fields = {"image": images, "pair": images + 1, "class": torch.ones(COUNT, dtype=torch.int64)}
    return transform(fields, SPECS, Draws(3, torch.arange(COUNT), "data"))


def test_pixels_become_minus_one_to_one() -> None:
    images = torch.tensor([[[[0, 255], [51, 204]]]], dtype=torch.uint8)
    spec = {"image": FieldSpec("image", (1, 2, 2), "uint8")}
    found = BatchTransform()({"image": images}, spec, Draws(0, torch.tensor([0]), "data"))
    torch.testing.assert_close(found["image"], torch.tensor([[[[-1.0, 1.0], [-0.6, 0.6]]]]))


def test_half_of_the_samples_are_mirrored_in_all_their_images_alike() -> None:
    plain, flipped = prepared(BatchTransform()), prepared(BatchTransform(flip=True))
    mirrored = (flipped["image"] != plain["image"]).flatten(1).any(1)
    assert 400 < mirrored.sum() < 600
    for name in ("image", "pair"):
        expected = torch.where(mirrored.reshape(-1, 1, 1, 1), plain[name].flip(3), plain[name])
        assert torch.equal(flipped[name], expected)
    assert torch.equal(
        prepared(BatchTransform(flip=True))["image"], flipped["image"]
    )  # a function of seed and position


def test_labels_are_dropped_in_the_share_asked_for() -> None:
    dropped = prepared(BatchTransform(label_dropout=0.2))["class"] == -1
    assert 150 < dropped.sum() < 250
    assert (prepared(BatchTransform(label_dropout=1.0))["class"] == -1).all()
    assert torch.equal(prepared(BatchTransform())["class"], torch.ones(COUNT, dtype=torch.int64))

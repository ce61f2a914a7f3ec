"""Comparing with a billion images: refused by name, and cheap where it is a part of them."""

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch

from bigtrain.distributed.init import Ranks
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.extraction import extract
from bigtrain.evaluation.images.shards import ShardImages, check_number
from data_pipelines.read import ShardDataset
from tests.scale.test_manifests import large


def test_all_of_a_billion_images_are_refused_and_some_are_not(tmp_path: Path) -> None:
    check_number(None, 1_281_167, "imagenet")
    check_number(50_000, 10**9, "laion")
    with pytest.raises(EvaluationError, match=r"laion: has 1,000,000,000 images; .*reference_samples: 50000"):
        check_number(None, 10**9, "laion")
    large(tmp_path, 0, shards=3000)
    with pytest.raises(EvaluationError, match="has 3,000,000 images"):
        ShardImages(ShardDataset(tmp_path))
    assert len(ShardImages(ShardDataset(tmp_path), 50_000)) == 50_000


class Endless:
    """A billion images, of which reading ends after a few batches."""

    name, digest, faults = "endless", "x", []

    def __init__(self) -> None:
        self.read_of: list[int] = []

    def __len__(self) -> int:
        return 10**9

    def read(self, index: torch.Tensor) -> Any:
        self.read_of += [int(index[0]), len(index)]
        if len(self.read_of) > 8:
            raise EvaluationError("enough")
        return torch.zeros(len(index), 3, 8, 8, dtype=torch.uint8), torch.zeros(len(index))


class NoExtractor:
    def __init__(self) -> None:
        self.layers: dict[str, int] = {}

    def __call__(self, *_: Any) -> dict[str, torch.Tensor]:
        return {}


def test_the_numbers_of_a_billion_images_are_not_listed(alone: None) -> None:
    images = Endless()
    tracemalloc.start()
    with pytest.raises(EvaluationError, match="enough"):
        extract(images, [], NoExtractor(), Ranks(5, 1024, 5, torch.device("cpu")), batch=32)  # type: ignore[arg-type]
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()
    assert images.read_of[:4] == [5 * 32, 32, (1024 + 5) * 32, 32]

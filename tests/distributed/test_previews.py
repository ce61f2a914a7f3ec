"""Previews show the same on any number of ranks, which share the work."""

from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from bigtrain.core.schedules import ConstantSchedule
from bigtrain.distributed.init import Ranks
from bigtrain.engine.ema import EMA, EMAConfig
from bigtrain.engine.reals import Reals
from bigtrain.generate.averaged import AveragedNetworks
from bigtrain.generate.previews import Previews
from tests.distributed.ranks import on_ranks
from tests.training import SMALL, Training


def _draw() -> dict[str, torch.Tensor]:
    rank, world_size = dist.get_rank(), dist.get_world_size()
    training = Training({"augment": {"kind": "ada", "transforms": "bgc", "probability": {"kind": "fixed", "p": 0.9}}})
    images = torch.arange(8 * 64, dtype=torch.int64).reshape(8, 1, 8, 8).to(torch.uint8)
    reals = Reals({"image": images, "class": torch.arange(8) % 3}, training.fields)
    ranks = Ranks(rank, world_size, rank, torch.device("cpu"))
    averages = {"G": EMA(EMAConfig(half_life_kimg=ConstantSchedule(value=1.0)), training.task.averaged["G"])}
    averaged = AveragedNetworks(training.task.sampler, averages, training.progress, seed=0, device=ranks.device)
    names = ["a", "b", "c"][: SMALL.classes]
    previews = Previews(training.task, averaged, reals, names, seed=0, chunk=6, ranks=ranks)
    pictures = previews.draw(training.progress)
    assert previews.record() == {}  # images neither sound nor move
    return {key: torch.from_numpy(np.array(picture)) for key, picture in pictures.items()}


def test_the_pictures_are_those_of_one_rank(tmp_path: Path, alone: None) -> None:
    expected = _draw()
    kinds = {"fakes", "truncation", "real_and_fake", "by_class"}
    assert expected.keys() == {f"samples/{kind}" for kind in kinds} | {"data/augmented"}
    assert all(picture.float().std() > 1 for picture in expected.values())
    first, *others = on_ranks(3, _draw, tmp_path)
    assert others == [{}, {}]
    assert first.keys() == expected.keys()
    for key, picture in expected.items():
        assert torch.equal(first[key], picture), key

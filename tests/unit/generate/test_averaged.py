"""Samples of the averages are made in parts where they would not fit at once."""

from typing import Any

import torch
from torch import Tensor

from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress
from bigtrain.generate.averaged import AveragedNetworks


class Counting:
    """A sampler that remembers how many samples it was asked for at once."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def calibrate(self, networks: Any, draws: Draws) -> None:
        """Nothing to do."""

    def __call__(self, networks: Any, inputs: dict[str, Tensor], draws: Draws) -> dict[str, Tensor]:
        self.asked.append(len(draws))
        return {"image": draws.uniform(3) + inputs["class"][:, None]}


def test_no_more_than_a_chunk_is_made_at_once() -> None:
    """An evaluation made 32 images at once, whatever the micro-batch that fits."""
    draws, inputs, device = Draws(1, torch.arange(10), "eval"), {"class": torch.arange(10)}, torch.device("cpu")
    sampler = Counting()
    found = {
        chunk: AveragedNetworks(sampler, {}, Progress(9, 3), seed=0, device=device, chunk=chunk).sample(inputs, draws)  # type: ignore[arg-type]
        for chunk in (None, 4)
    }
    assert sampler.asked == [10, 4, 4, 2]
    assert torch.equal(found[None]["image"], found[4]["image"])

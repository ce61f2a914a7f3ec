"""The probability of augmentation is the same on every rank, on any number of them, and after a resume."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from bigtrain.augment.ada import AdaConfig
from bigtrain.augment.ada_controller import AdaptiveConfig
from bigtrain.core.batch import Batch
from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress
from bigtrain.distributed.collectives import mean_over_ranks
from tests.distributed.ranks import on_ranks

GLOBAL_BATCH = 8


def play(steps: int, state: dict[str, Any] | None = None, start: int = 0) -> dict[str, Any]:
    """Show a fixed D this rank's share of augmented images, step after step, and let p follow its signs."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    config = AdaConfig(
        kind="ada", transforms="bgc", probability=AdaptiveConfig(target=0.2, interval=3, adjust_kimg=0.1)
    )
    augment, controller = config.build(), config.probability.build(torch.device("cpu"))
    if state:
        controller.load_state_dict(state)
    progress = Progress(10**6, GLOBAL_BATCH)
    progress.samples_seen = start * GLOBAL_BATCH
    share = GLOBAL_BATCH // world_size
    seen, shown = [], torch.zeros(0)
    for step in range(start, start + steps):
        position = torch.arange(step * GLOBAL_BATCH, (step + 1) * GLOBAL_BATCH)[rank * share : (rank + 1) * share]
        draws = Draws(0, position, "d_main")
        batch = Batch({"image": draws.of("images").normal(3, 8, 8) + 0.1}, draws)
        shown = augment(batch["image"], batch.draws.of("real"), controller.p)
        logits = shown.mean((1, 2, 3)) - 0.05 * controller.p  # a D that augmentation confuses
        progress.advance()
        controller.update(mean_over_ranks(logits.sign().mean()), progress)
        seen.append(controller.p.item())
    return {"p": seen, "state": controller.state_dict(), "shown": shown}


def test_all_ranks_agree_as_one_rank_does(tmp_path: Path) -> None:
    (alone,) = on_ranks(1, play, tmp_path, 40)
    first, second = on_ranks(2, play, tmp_path, 40)
    assert first["p"] == second["p"] == alone["p"]
    assert first["state"] == second["state"] == alone["state"]
    assert max(alone["p"]) > 0.2 and len(set(alone["p"])) > 3
    torch.testing.assert_close(torch.cat([first["shown"], second["shown"]]), alone["shown"], rtol=0, atol=1e-5)


def test_goes_on_exactly_on_another_number_of_ranks(tmp_path: Path) -> None:
    (whole,) = on_ranks(1, play, tmp_path, 30)
    before, _ = on_ranks(2, play, tmp_path, 16)  # ends within an interval
    (after,) = on_ranks(1, play, tmp_path, 14, before["state"], 16)
    assert before["p"] + after["p"] == whole["p"]
    assert after["state"] == whole["state"]

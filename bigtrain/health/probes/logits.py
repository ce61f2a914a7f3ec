"""What D thinks of images that it trains on, and of images that it has never seen."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from bigtrain.core.batch import Batch
from bigtrain.distributed.collectives import sum_over_ranks
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.precision import Precision, autocast
from bigtrain.engine.reals import Reals

BatchLogits = Callable[[Batch], Mapping[str, Tensor]]
"""Maps real samples to the logits [N] of each discriminator, see `Task.logits_of`."""


class LogitProbe:
    """Shows D the same images each time, in micro-batches as in training (some networks look at a whole one).

    Args:
        trained: images that are trained on.
        held_out: images that are not; none to measure nothing.
        micro_batch: images a forward.
        ranks: who shares the work.
        precision: of the run; weights that are kept in bfloat16 need its autocast.
    """

    def __init__(
        self, trained: Reals, held_out: Reals, *, micro_batch: int, ranks: Ranks, precision: Precision = "fp32"
    ) -> None:
        self._sets = {"train": trained, "held_out": held_out}
        self._micro_batch, self._ranks = micro_batch, ranks
        self._precision: Precision = precision if precision == "pure_bf16" else "fp32"

    @torch.no_grad()
    def read(self, logits_of: BatchLogits) -> dict[str, float]:
        """Return mean logits and signs by names such as `logits/held_out`, or nothing. Collective.

        `logits/held_out_z` is by how many standard errors the logits of held-out images are lower.
        """
        if not len(self._sets["held_out"]):
            return {}
        moments = {name: self._moments(reals, logits_of) for name, reals in self._sets.items()}
        readings: dict[str, float] = {}
        for network in moments["train"]:
            suffix, error, means = f"/{network}" if network else "", 0.0, {}
            for name, reals in self._sets.items():
                logit, square, sign, count = moments[name][network]
                means[name] = logit / count
                readings |= {f"logits/{name}{suffix}": means[name], f"signs/{name}{suffix}": sign / count}
                # An image that came twice, to fill up a micro-batch, counts once.
                error += max(square / count - means[name] ** 2, 0.0) / len(reals)
            gap = means["train"] - means["held_out"]
            readings[f"logits/held_out_z{suffix}"] = gap / max(error**0.5, 1e-9)
        return readings

    def _moments(self, reals: Reals, logits_of: BatchLogits) -> dict[str, list[float]]:
        """Return the sums of logits, their squares, their signs and their number, by discriminator. Collective."""
        batches = -(-len(reals) // self._micro_batch)
        sums: dict[str, Tensor] = {}
        # Every rank takes as many, since D may compute statistics over all ranks; the surplus does not count.
        for batch in range(self._ranks.rank, batches + self._ranks.rank, self._ranks.world_size):
            # The last micro-batch is filled up from the front.
            rows = torch.arange(batch * self._micro_batch, (batch + 1) * self._micro_batch) % len(reals)
            with autocast(self._ranks.device.type, self._precision):
                found = logits_of(reals.batch(rows, self._ranks.device))
            for network, logits in found.items():
                wide = logits.double().cpu()
                known = sums.setdefault(network, torch.zeros(4, dtype=torch.float64))
                if batch < batches:
                    known += torch.stack(
                        [wide.sum(), wide.square().sum(), wide.sign().sum(), torch.ones_like(wide).sum()]
                    )
        return {network: sum_over_ranks(part).tolist() for network, part in sums.items()}

"""The load of every rank (time, messages and memory) as metrics, as tables, and as `ranks.json`."""

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

from bigtrain.core.logging import console
from bigtrain.distributed.collectives import is_rank_zero
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.memory import memory_metrics, memory_table
from bigtrain.distributed.stragglers import SLOW, communication_metrics, gather_times, slowest, straggler_table
from bigtrain.distributed.traffic import traffic
from bigtrain.strategies import Strategy
from data_pipelines.files import write_json


class Load:
    """Measures the steps of a run.

    Args:
        ranks: this process's place.
        strategies: of the players, by name.
        folder: the run folder.
    """

    def __init__(self, ranks: Ranks, strategies: Mapping[str, Strategy], folder: Path) -> None:
        self._ranks, self._strategies, self._folder = ranks, strategies, folder
        self._shown_memory = False
        self._slow: int | None = None

    def step(self) -> AbstractContextManager[None]:
        """Measure the time of the step that is taken inside, data included."""
        return traffic.step()

    def data_wait(self) -> AbstractContextManager[None]:
        """Measure how long images are waited for."""
        return traffic.data_wait()

    def read(self, activations: Mapping[str, int]) -> dict[str, float]:
        """Return a mean step's metrics since the last reading, and show the tables where they are news. Collective.

        Args:
            activations: bytes that each phase needs, by name, where known.
        """
        times = gather_times(traffic.read(), self._ranks.device)
        memory_use = {name: strategy.memory_use() for name, strategy in self._strategies.items()}
        timed = self._ranks.device.type != "cuda"
        metrics = communication_metrics(times, timed=timed) | memory_metrics(
            memory_use, activations, self._ranks.device
        )
        if is_rank_zero():
            if activations and not self._shown_memory:
                self._shown_memory = True
                console.print(memory_table(memory_use, activations))
            rank, factor = slowest(times)
            slow = rank if timed and factor > SLOW else None
            if slow is not None and slow != self._slow:
                console.print(straggler_table(times))
            self._slow = slow
            self._write({"ranks": [asdict(one) for one in times], "metrics": metrics})
        return metrics

    def _write(self, facts: dict[str, object]) -> None:
        with contextlib.suppress(OSError):  # a full disk costs a table, not the run
            write_json(self._folder / "ranks.json", facts)

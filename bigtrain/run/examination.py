"""Examinations of a run's health, from its metrics, logits, weights and samples."""

import time
from collections.abc import Iterator, Mapping
from functools import partial

from torch import Tensor

from bigtrain.core.state import Progress
from bigtrain.engine.strategy import Strategy
from bigtrain.engine.task import Task
from bigtrain.generate.averaged import AveragedNetworks
from bigtrain.generate.pictures import image_grid
from bigtrain.health.health_monitor import HealthMonitor
from bigtrain.health.recovery import Recovery
from bigtrain.run.log import RunLog


class Examination:
    """Runs the health monitors: the quick ones at each log interval, the thorough ones less often.

    Args:
        monitor: takes readings and judges them.
        task: whose discriminator is asked.
        strategies: of the players.
        averaged: makes samples.
        recovery: written into the health report.
        progress: of the run.
        log: receives the readings.
        global_batch: samples of a step's batch.
        roles: of the players, see `TaskConfig.roles`.
    """

    def __init__(
        self,
        monitor: HealthMonitor,
        task: Task,
        strategies: Mapping[str, Strategy],
        averaged: AveragedNetworks,
        recovery: Recovery,
        progress: Progress,
        log: RunLog,
        *,
        global_batch: int,
        roles: Mapping[str, str],
    ) -> None:
        self.monitor, self._task, self._strategies, self._averaged = monitor, task, strategies, averaged
        self._recovery, self._progress, self._log, self._global_batch = recovery, progress, log, global_batch
        self._roles = roles
        # Before the first step; later, a player whose rival trains is frozen for that long.
        self._frozen = {
            name: {key for key, value in player.named_parameters() if not value.requires_grad}
            for name, player in task.players.items()
        }

    @property
    def healthy(self) -> bool:
        """Whether a checkpoint of now is one to come back to."""
        return self.monitor.health.healthy

    def interval(self, features_kimg: float) -> float:
        """Return thousands of images between two thorough examinations; 0 where the run makes nothing to examine so."""
        return features_kimg if self.monitor.looks_at_features else 0

    def read_skipped(self) -> None:
        """Count and note the optimizer steps that were skipped since the last time."""
        self._log.skipped(self.monitor.read_skipped())

    def quick(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Examine the interval's metrics, the discriminator and the weights; return all to log. Collective."""
        step_seconds = metrics["time/sec_per_kimg"] * self._global_batch / 1000
        metrics = {**metrics, "time/data_wait_share": metrics["time/data_wait_s"] / step_seconds}
        networks = {key: network for strategy in self._strategies.values() for key, network in strategy.infer().items()}
        logits_of = partial(self._task.logits_of, networks)
        phases = self._task.phases(self._progress)
        generators = [phase.name for phase in phases if self._roles.get(phase.player) == "generator"]
        found = self.monitor.quick(metrics, logits_of, self._parameters(), self._progress, generators=generators)
        self.monitor.write_report(self._recovery, self._progress)
        return {**metrics, **found}

    def thorough(self) -> None:
        """Compare samples with real ones. Collective."""
        began = time.perf_counter()
        self._averaged.networks()
        found, neighbours = self.monitor.thorough(self._averaged.sample, self._progress)
        self._log.metrics(found)
        self._log.pictures({name: image_grid(one.images, one.columns) for name, one in neighbours.items()})
        self.monitor.write_report(self._recovery, self._progress)
        self._log.leave_out(time.perf_counter() - began)

    def _parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the weights of all players. Collective where sharded."""
        for name, strategy in self._strategies.items():
            player = self._task.players[name]
            # A bias that a normalisation undoes never moves, and says nothing of the units.
            idle = {f"{path}.bias" for path, one in player.named_modules() if getattr(one, "idle_bias", False)}
            names = {key for key, _ in player.named_parameters()} - idle - self._frozen[name]
            yield from ((f"{name}.{key}", value) for key, value in strategy.full_params() if key in names)

"""The averaged networks of a run as they are now, ready to sample."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress
from bigtrain.engine.ema import EMA
from bigtrain.engine.sampler import Sampler

_LATENTS = 1024
"""Latents that statistics for sampling are computed from."""


class AveragedNetworks:
    """Samples from a run's averages; what sampling needs is computed once a step.

    Args:
        sampler: of the task.
        averages: by the names of their networks.
        progress: of the run.
        seed: of the run: the statistics are a function of it and of the weights.
        device: where the networks are.
        span: surrounds the computation of the statistics.
        chunk: samples that are made at once; None for as many as are asked for.
    """

    def __init__(
        self,
        sampler: Sampler,
        averages: Mapping[str, EMA],
        progress: Progress,
        *,
        seed: int,
        device: torch.device,
        span: Callable[[str], AbstractContextManager[Any]] = lambda name: nullcontext(),
        chunk: int | None = None,
    ) -> None:
        self.sampler, self._averages, self._progress = sampler, averages, progress
        self._seed, self._device, self._span = seed, device, span
        self._chunk = chunk
        self._calibrated: int | None = None

    def networks(self) -> dict[str, nn.Module]:
        """Return the averages by half-life, ready to sample."""
        networks = {name: average.network for name, average in self._averages.items()}
        if self._calibrated != self._progress.samples_seen:
            with self._span("calibrate"):
                self._calibrate(networks)
            self._calibrated = self._progress.samples_seen
        return networks

    def profiles(self) -> dict[float, dict[str, nn.Module]]:
        """Return the averages by power functions, by their sigma_rel, ready to sample."""
        widths = next(iter(self._averages.values())).profiles
        found = {width: {name: average.profiles[width] for name, average in self._averages.items()} for width in widths}
        for networks in found.values():
            self._calibrate(networks)
        return found

    def forget(self) -> None:
        """Take note that the weights were changed otherwise than by training: a rollback."""
        self._calibrated = None

    def sample(self, inputs: Mapping[str, Tensor], draws: Draws, **choices: Any) -> dict[str, Tensor]:
        """Make outputs, one a draw; see `Sampler.__call__`."""
        networks, chunk = self.networks(), self._chunk or len(draws)
        if len(draws) <= chunk:
            return self.sampler(networks, inputs, draws, **choices)
        parts = []
        for first in range(0, len(draws), chunk):
            rows = slice(first, first + chunk)
            given = {name: value[rows] for name, value in inputs.items()}
            parts.append(self.sampler(networks, given, draws[rows], **choices))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _calibrate(self, networks: Mapping[str, nn.Module]) -> None:
        draws = Draws(self._seed, torch.arange(_LATENTS, device=self._device), "calibrate")
        self.sampler.calibrate(networks, draws)

"""`micro_batch: auto`: the largest micro-batch that fits into this machine's memory, found before training.

A step's memory is what the players keep (weights, gradients, moments) and what a micro-batch needs on its way through
a phase, all of the objective's terms included. The second is measured at two small sizes and grows in a straight line,
so that nothing needs to overflow to find the limit; on a GPU the size found is tried as well. All ranks take the
smallest of their answers. The number goes into the run folder's config, and a resume takes it from there, on whatever
machine: it decides which samples share batch statistics.
"""

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil
import torch
import torch.distributed as dist

from bigtrain.config import TrainingConfig
from bigtrain.core.config import ConfigError, read_yaml
from bigtrain.core.logging import log
from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.memory import MIB, measured_peak
from bigtrain.engine.made_up import random_batch
from bigtrain.engine.step import compute_gradients
from bigtrain.engine.strategy import Strategy
from bigtrain.planning.counting import fullest_phases
from bigtrain.strategies.single import SingleConfig

ConfigT = TypeVar("ConfigT", bound=TrainingConfig)
SHARE = 0.85
"""Of the free memory that may be used; the rest is for evaluation, buffers of messages and fragmentation."""


def remember_micro_batch(config: ConfigT) -> ConfigT:
    """Return the config with the micro-batch that its run folder has, if `auto` was resolved there before."""
    saved = config.folder / "config.yaml"
    if config.micro_batch != "auto" or not saved.is_file():
        return config
    return config.model_copy(update={"micro_batch": read_yaml(saved)["micro_batch"]})


def resolve_micro_batch(config: ConfigT, ranks: Ranks) -> ConfigT:
    """Return the config with a number for `auto`. Collective.

    Raises:
        ConfigError: not even the smallest micro-batch that the objective takes fits.
    """
    if config.micro_batch != "auto":
        return config
    sizes = candidates(config, ranks.world_size)
    free = free_bytes(ranks) * SHARE if config.memory_gib is None else config.memory_gib * 2**30
    trial = MicroBatchTrial(config, ranks.device)
    needs = predict(trial.peak, sizes)
    fitting = [size for size in sizes if trial.kept + needs(size) <= free]
    mine = max(fitting, default=0)
    if ranks.device.type == "cuda":
        while mine and not trial.runs(mine):
            mine = max((size for size in sizes if size < mine), default=0)
    del trial
    give_back_memory(ranks.device)
    agreed = torch.tensor(mine)  # on the host: NCCL's first operation takes memory of the card
    dist.all_reduce(agreed, op=dist.ReduceOp.MIN)
    found = int(agreed)
    if not found:
        least = (MicroBatchTrial(config, ranks.device).kept + needs(sizes[0])) / MIB
        raise ConfigError(
            f"micro_batch 'auto': {sizes[0]} images at once need {least:.0f} MiB per rank, but only {free / MIB:.0f} "
            f"MiB are free: use a smaller network, activation_checkpointing, or fewer ranks on this machine"
        )
    log.info("micro_batch: %d of %s fit into %.1f GiB per rank", found, ", ".join(map(str, sizes)), free / 2**30)
    return config.model_copy(update={"micro_batch": found})


def candidates(config: TrainingConfig, world_size: int) -> list[int]:
    """Return the sizes that divide a rank's share of the batch and that the objective takes, smallest first.

    Raises:
        ConfigError: there are none.
    """
    share, rest = divmod(config.global_batch, world_size)
    if rest:
        raise ConfigError(f"global_batch {config.global_batch} does not divide over {world_size} ranks")
    try:
        with torch.device("meta"):
            networks = {name: spec.build() for name, spec in config.networks(config.data.field_specs()).items()}
    except ValueError as error:
        raise ConfigError(str(error)) from None
    reason, found = "", []
    for size in (number for number in range(1, share + 1) if share % number == 0):
        try:
            config.check_task(networks, micro_batch=size)
        except ValueError as error:
            reason = str(error)
        else:
            found.append(size)
    if not found:
        raise ConfigError(reason)
    return found


def free_bytes(ranks: Ranks) -> float:
    """Return the memory that this rank may use: the device's, or its part of the host's."""
    if ranks.device.type == "cuda":
        return float(torch.cuda.mem_get_info(ranks.device)[0])
    neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", ranks.world_size))
    limit = Path("/sys/fs/cgroup/memory.max")
    free = float(psutil.virtual_memory().available)
    if limit.is_file() and (text := limit.read_text().strip()) != "max":
        free = min(free, float(text) - float(Path("/sys/fs/cgroup/memory.current").read_text()))
    return free / neighbours


def predict(measure: Callable[[int], int], sizes: list[int]) -> Callable[[int], float]:
    """Return the straight line through what two sizes need, the smallest and the next of at least twice that."""
    first = sizes[0]
    second = next((size for size in sizes if size >= 2 * first), None)
    low = measure(first)
    if second is None:
        return lambda size: float(low)
    slope = max((measure(second) - low) / (second - first), 0.0)
    return lambda size: low + slope * (size - first)


class MicroBatchTrial:
    """The players of a run, on random samples.

    Args:
        config: of the run.
        device: where to.

    Attributes:
        kept: bytes of weights, gradients (in DDP's buckets) and moments of all players, and of the averages.
    """

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self._config, self._device = config, device
        self._fields = config.data.field_specs()
        self._task = config.build_task(self._fields, {}, seed=0, device=device)
        for network in self._task.frozen():
            network.allocate(device)
        self._strategies: dict[str, Strategy] = {
            name: SingleConfig().build(player, self._task.optimizers[name], config.precision, 1, Ranks(0, 1, 0, device))
            for name, player in self._task.players.items()
        }
        weights = [
            memory_use.parameters + 3 * memory_use.gradients
            for memory_use in (one.memory_use() for one in self._strategies.values())
        ]
        averaged = [value for network in self._task.averaged.values() for value in network.state_dict().values()]
        frozen = [value for network in self._task.frozen() for value in network.parameters()]
        self.kept = sum(weights) + sum(value.nbytes for value in (*averaged, *frozen))

    def peak(self, size: int) -> int:
        """Return the bytes that a micro-batch needs at most, in the phase that needs most."""
        batch = random_batch(self._fields, Draws(0, torch.arange(size, device=self._device), "micro_batch"))
        whole = round(self._config.total_kimg * 1000)
        end = Progress(whole, self._config.global_batch * self._task.batches_per_step)
        end.samples_seen = whole
        self._task.before_step(end)  # networks that grow have grown
        most = 0
        for phase in fullest_phases(self._task, end):
            with measured_peak(self._device) as peak:
                compute_gradients(self._task, self._strategies, phase, batch, size)
            most = max(most, peak())
            self._task.players[phase.player].zero_grad(set_to_none=True)
        return most

    def runs(self, size: int) -> bool:
        """Tell whether a size really fits into the GPU."""
        try:
            self.peak(size)
        except torch.OutOfMemoryError:
            fits = False  # the error holds the tensors of the trial until this block ends
        else:
            fits = True
        if not fits:
            for player in self._task.players.values():
                player.zero_grad(set_to_none=True)
        give_back_memory(self._device)
        return fits


def give_back_memory(device: torch.device) -> None:
    """Return to the GPU what PyTorch keeps for later: messages and other libraries take memory of their own there."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()

"""Log the description of a run when it starts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bigtrain.config import TrainingConfig
from bigtrain.core.logging import log
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.precision import advice_on, convolution_speeds
from bigtrain.engine.task import Task
from bigtrain.run.description import describe_run
from bigtrain.run.journal import Journal
from data_pipelines.manifest import Manifest


def announce(
    loaded: Path | None,
    *,
    config: TrainingConfig,
    manifests: Mapping[str, Manifest],
    ranks: Ranks,
    task: Task,
    journal: Journal,
) -> dict[str, Any]:
    """Tell on the console where and how the run trains, and warn of what has changed since it last did.

    Returns:
        The arguments of `RunLog.begin`, but for the checkpoint.
    """
    if loaded:
        log.info("resuming from %s", loaded)
    world_size, batch, micro = ranks.world_size, config.global_batch, config.micro_batch_size
    where = f"{world_size} rank{'s' * (world_size > 1)} ({ranks.device.type})"
    pieces = batch // world_size // micro
    log.info("%s: %d images per step in %d x %d micro-batches of %d", where, batch, world_size, pieces, micro)
    if ranks.device.type == "cpu" and (advice := advice_on(config.precision, convolution_speeds())):
        log.info("%s", advice)
    journal.compare_cut(batch // world_size, micro, task.players.values())
    description = describe_run(config, manifests, ranks)
    return {"description": description, "world_size": world_size, "micro_batches": pieces}

"""A picture of what the networks of a run see: samples after crop and flip, derived fields, and what D is shown."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from bigtrain.config import TrainingConfig
from bigtrain.core.batch import Batch
from bigtrain.core.config import ConfigError
from bigtrain.core.errors import UserError
from bigtrain.core.state import Progress
from bigtrain.distributed.init import Ranks
from bigtrain.generate.displays import displayed
from bigtrain.generate.pictures import image_columns
from bigtrain.run.data import RunData, feed_of, open_data
from bigtrain.run.data_checks import check_data

_SAMPLES = 8
_NO_PICTURES = ("class", "classes", "text")
"""Kinds of fields that are no picture."""


def write_sheet(config: TrainingConfig, out: Path) -> list[str]:
    """Write the first training samples as a picture: a row each, a column for each field that can be shown.

    Args:
        config: of the run; its networks are built, and nothing is trained.
        out: PNG to write.

    Returns:
        The captions of the columns.

    Raises:
        ConfigError: the data do not fit the config, or its networks do not fit them.
        UserError: the samples have no field that could be shown, or the picture cannot be written.
    """
    config = config.model_copy(update={"global_batch": _SAMPLES, "micro_batch": 1})
    check_data(config)
    device = torch.device("cpu")
    data, streams = open_data(config, Ranks(0, 1, 0, device), quarantine=out.with_name(f"{out.name}.quarantine.jsonl"))
    feed = feed_of(config, data, streams, seed=lambda: config.seed, device=device)
    batch = next(feed)
    feed.close()
    fields = {name: spec for name, spec in data.fields.items() if spec.kind not in _NO_PICTURES}
    if not fields:
        raise UserError(f"{', '.join(config.data.paths)}: the samples have no field that could be shown")
    columns = {name: displayed(batch[name], spec) for name, spec in fields.items()}
    columns |= _as_shown(config, data, batch)
    sheet = image_columns(columns)
    try:
        Image.fromarray(sheet).save(out, "PNG")
    except OSError as error:
        raise UserError(f"{out}: the picture cannot be written ({error.strerror}); choose another --out") from None
    return list(columns)


def _as_shown(config: TrainingConfig, data: RunData, batch: Batch) -> dict[str, Tensor]:
    """Return what a discriminator is shown of the samples at the start of the run, where it is something else."""
    try:
        task = config.build_task(data.fields, data.class_counts, seed=config.seed, device=batch.draws.index.device)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    shown = task.shown(batch, Progress(total=1, batch=_SAMPLES))
    return {
        f"{name}, as D sees it": displayed(seen, data.fields[name])
        for name, seen in shown.items()
        if seen.shape != batch[name].shape or not torch.equal(seen, batch[name])
    }

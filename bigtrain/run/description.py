"""The description of a run for MLflow: parameters, tags, dataset, and a note for its page."""

from collections.abc import Mapping
from typing import Any

from bigtrain.config import TrainingConfig
from bigtrain.core.config import flatten
from bigtrain.distributed.init import Ranks
from bigtrain.run.folder import environment_tags
from data_pipelines.manifest import Manifest


def describe_run(config: TrainingConfig, manifests: Mapping[str, Manifest], ranks: Ranks) -> dict[str, Any]:
    """Return the arguments of `Tracker.start`.

    Args:
        config: of the run.
        manifests: of its streams, by name.
        ranks: who trains.
    """
    params = flatten(config.model_dump(mode="json"))
    strategy = "+".join(sorted({str(v) for key, v in params.items() if key.startswith("strategy.") and "kind" in key}))
    digest = "+".join(manifest.digest for manifest in manifests.values())
    tags = {
        **environment_tags(),
        "world_size": str(ranks.world_size),
        "device": ranks.device.type,
        "strategy": strategy,
        "dataset.digest": digest,
    }
    first = next(iter(manifests.values()))
    dataset = {
        "name": "+".join(manifest.name for manifest in manifests.values()),
        "digest": digest,
        "folder": ", ".join(config.data.paths),
        "source": "; ".join(dict.fromkeys(manifest.source for manifest in manifests.values())),
        "shape": list(next(iter(config.data.field_specs().values())).shape),
        "profile": {
            "images": sum(manifest.count for manifest in manifests.values()),
            "classes": len(first.classes),
            "shards": sum(len(manifest.shards) for manifest in manifests.values()),
            "licence": "; ".join(dict.fromkeys(manifest.licence for manifest in manifests.values())),
            "sha256": digest,
        },
    }
    note = _note(config, manifests, ranks, strategy)
    return {"params": params, "tags": tags, "dataset": dataset, "note": note}


def _note(config: TrainingConfig, manifests: Mapping[str, Manifest], ranks: Ranks, strategy: str) -> str:
    fields = config.data.field_specs()
    specs = reversed(config.networks(fields).items())
    networks = " against ".join(dict.fromkeys(str(getattr(spec.config, "kind", name)) for name, spec in specs))
    sets = " and ".join(f"**{manifest.name}** ({manifest.count:,} samples)" for manifest in manifests.values())
    shapes = ", ".join(
        f"{len(spec.classes)} classes" if spec.kind == "class" else f"{name} {'x'.join(map(str, spec.shape))}"
        for name, spec in fields.items()
    )
    return (
        f"**{config.task}**: **{networks}** on {sets}; {shapes}; {config.total_kimg:g} kimg in batches of "
        f"{config.global_batch}, {config.precision}, {strategy} on {ranks.world_size} x {ranks.device.type}.\n\n"
        f"Folder: `{config.folder.resolve()}`. Metrics are drawn over images seen (step = images). "
        f"Start here: *Model metrics* for scores, losses and sample grids, *System metrics* for the nodes, "
        f"*Artifacts* for the config, logs, checkpoints and snapshots."
    )

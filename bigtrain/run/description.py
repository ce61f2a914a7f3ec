"""What a run tells of itself when it starts: parameters, tags, dataset, and a note for whoever opens its page."""

from typing import Any

from bigtrain.config import TrainingConfig
from bigtrain.core.config import flatten
from bigtrain.distributed.init import Ranks
from bigtrain.run.folder import environment_tags
from data_pipelines.manifest import Manifest


def describe_run(config: TrainingConfig, manifest: Manifest, ranks: Ranks) -> dict[str, Any]:
    """Return the arguments of `Tracker.start`."""
    params = flatten(config.model_dump(mode="json"))
    strategy = "+".join(sorted({str(v) for key, v in params.items() if key.startswith("strategy.") and "kind" in key}))
    tags = {
        **environment_tags(),
        "world_size": str(ranks.world_size),
        "device": ranks.device.type,
        "strategy": strategy,
        "dataset.digest": manifest.digest,
    }
    dataset = {
        "name": manifest.name,
        "digest": manifest.digest,
        "folder": config.data.path,
        "shape": list(manifest.shape),
        "profile": {
            "images": manifest.count,
            "classes": len(manifest.classes),
            "shards": len(manifest.shards),
            "licence": manifest.licence,
            "sha256": manifest.digest,
        },
    }
    return {
        "params": params,
        "tags": tags,
        "dataset": dataset,
        "note": _note(config, manifest, ranks, params, strategy),
    }


def _note(config: TrainingConfig, manifest: Manifest, ranks: Ranks, params: dict[str, Any], strategy: str) -> str:
    networks = " against ".join(str(params[key]) for key in ("generator.kind", "discriminator.kind") if key in params)
    classes = f", {len(manifest.classes)} classes" if config.data.classes else ""
    return (
        f"**{networks}** on **{manifest.name}** ({manifest.count:,} images of {'x'.join(map(str, manifest.shape[1:]))}"
        f"{classes}), {config.total_kimg:g} kimg in batches of {config.global_batch}, {config.precision}, "
        f"{strategy} on {ranks.world_size} x {ranks.device.type}.\n\n"
        f"Folder: `{config.folder.resolve()}`. Metrics are drawn over images seen (step = images). "
        f"Start here: *Model metrics* for scores, losses and sample grids, *System metrics* for the nodes, "
        f"*Artifacts* for the config, logs, checkpoints and snapshots."
    )

"""A tiny run of pix2pix, its data and its config: for tests of what the commands make of a translation."""

from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from data_pipelines.fields.spec import FieldSpec
from data_pipelines.prepare.arrays import from_fields
from data_pipelines.write import ShardOptions, write_shards

IMAGE = FieldSpec("image", (3, 16, 16), "uint8", codec="png")
ADAM = {"lr": 1e-3, "beta1": 0.5}
CONFIG: dict[str, Any] = {
    "task": "translation",
    "total_kimg": 0.064,
    "global_batch": 8,
    "micro_batch": 4,
    "generator": {"kind": "resnet_translator", "width": 4, "blocks": 1, "dropout": 0.5},
    "discriminator": {"kind": "patch", "width": 4, "layers": 1, "norm": "instance"},
    "objective": {"terms": {"l1": {"weight": 10}}},
    "optim": {"G": ADAM, "D": ADAM},
    "strategy": {"kind": "ddp"},
    "ema": {"half_life_kimg": 0.1},
    "log": {"interval_kimg": 0.016},
    "preview": {"interval_kimg": 0.032},
    "eval": {"interval_kimg": 0.032, "samples": 8, "reference_samples": 16, "pairs": ["psnr"], "best": "psnr"},
    "checkpoint": {"interval_kimg": 0.032},
    "snapshot": {"interval_kimg": 0},
    "health": {"held_out": 0.2, "images": 8, "neighbours": 8, "features_kimg": 0},
    "tracking": {"mlflow": False, "system_seconds": 0},
}


def write_pairs(folder: Path) -> Path:
    """Make shards of 40 pairs whose target is the negative of the input; return their folder."""
    rng = np.random.default_rng(0)
    image = np.repeat(np.repeat(rng.integers(0, 256, (40, 3, 4, 4), dtype=np.uint8), 4, axis=2), 4, axis=3)
    fields = {"input": image, "target": 255 - image}
    write_shards(from_fields("negatives", fields, dict.fromkeys(fields, IMAGE)), folder, ShardOptions(shard_samples=10))
    return folder


def write_config(path: Path, data: Path, run_dir: Path, **changes: Any) -> Path:
    """Leave the YAML file of a run; changes replace its keys at the top."""
    fields = {"input": {"kind": "image"}, "target": {"kind": "image"}}
    stream = {"path": str(data), "resolution": 16, "fields": fields, "flip": True}
    YAML(typ="safe", pure=True).dump({**CONFIG, "data": stream, "run_dir": str(run_dir), **changes}, path)
    return path

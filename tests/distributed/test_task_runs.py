"""Whole runs of every task on two ranks: stopped, killed and resumed to the same bits, on any fields."""

import json
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from bigtrain.build import build, check
from bigtrain.chaos.compare import differences
from bigtrain.config import parse_training
from bigtrain.distributed.collectives import barrier, is_rank_zero
from bigtrain.distributed.init import Ranks
from bigtrain.engine.step import StepResult
from bigtrain.evaluation.probes.file import About, write_probe
from bigtrain.evaluation.probes.network import ProbeNetwork
from bigtrain.generate.snapshot import load_snapshot
from bigtrain.run.folder import open_run_folder
from bigtrain.tracking.events import read_events
from bigtrain.tracking.spool import FILE_NAME, read_records
from bigtrain.trainer import Trainer
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.prepare.arrays import from_fields
from data_pipelines.write import ShardOptions, write_shards
from tests.distributed.ranks import on_ranks

STEPS = 4
PROBE = "a probe of the sounds"
"""Stands for the place of a probe that the data have beside them."""
IMAGE = FieldSpec("image", (3, 16, 16), "uint8", codec="png")
SOUND = FieldSpec("audio", (1, 256), "int16", rate=8000, codec="flac")
LATENT = FieldSpec("array", (16, 8, 8), "float32", codec="npy")
POINTS = FieldSpec("array", (24, 3), "float32", codec="npy")
CLIP = FieldSpec("video", (4, 1, 8, 8), "uint8", rate=8, codec="npy")
VOLUME = FieldSpec("array", (1, 8, 8, 8), "float32", codec="npy")
POSE = FieldSpec("array", (2,), "float32", codec="npy")
ADAM = {"lr": 1e-3, "beta1": 0.5}
COMMON: dict[str, Any] = {
    "global_batch": 8,
    "micro_batch": 2,
    "total_kimg": 0.008 * STEPS,
    "precision": "bf16",
    "strategy": {"kind": "ddp"},
    "optim": {"G": ADAM, "D": ADAM},
    "ema": {"half_life_kimg": 0.1},
    "log": {"interval_kimg": 0.016},
    "preview": {"interval_kimg": 0.032},
    "checkpoint": {"interval_kimg": 1.0},
    "snapshot": {"interval_kimg": 0.032, "discriminators": True},
    "health": {"held_out": 0.2, "images": 8, "neighbours": 8, "features_kimg": 0},
    "tracking": {"mlflow": False},
}
RESNET = {"kind": "resnet_translator", "width": 4, "blocks": 1, "dropout": 0.5}
PATCHES = {"kind": "patch", "width": 4, "layers": 1, "norm": "instance"}
BIGGAN = {"kind": "biggan", "width": 4, "multiples": [2, 1]}
RUNS: dict[str, dict[str, Any]] = {
    "translation": {
        "task": "translation",
        "generator": RESNET,
        "discriminator": PATCHES,
        "objective": {"terms": {"l1": {"weight": 10}, "perceptual": {}}},
        "data": {
            "path": "pairs",
            "resolution": 16,
            "fields": {"input": {"kind": "image"}, "target": {"kind": "image"}},
            "flip": True,
        },
        "eval": {
            "interval_kimg": 0.032,
            "samples": 8,
            "reference_samples": 16,
            "pairs": ["psnr", "perceptual"],
            "best": "perceptual",
        },
    },
    "unpaired": {
        "task": "unpaired",
        "generator": RESNET,
        "discriminator": PATCHES,
        "objective": {
            "adversarial": "least_squares",
            "terms": {"identity": {}, "patch_nce": {"layers": [0, 2, 4], "patches": 8, "width": 8}},
            "pool": 12,
        },
        "data": {
            "streams": {
                "A": {"path": "one", "resolution": 16, "flip": True},
                "B": {"path": "other", "resolution": 16, "flip": True},
            }
        },
        "eval": {"interval_kimg": 0, "samples": 8},
    },
    "edges_first": {
        "task": "translation",
        "target": "image",
        "generator": {
            "kind": "edge_inpainter",
            "edges": {**RESNET, "dropout": 0.0},
            "image": {**RESNET, "dropout": 0.0},
            "sigma": 0.5,
        },
        "discriminator": PATCHES,
        "objective": {"adversarial": "hinge", "terms": {"l1": {}}},
        "first_stage": {
            "target": "edges",
            "discriminator": PATCHES,
            "objective": {"terms": {"feature_matching": {"distance": "l1"}}},
        },
        "data": {
            "path": "one",
            "resolution": 16,
            "flip": True,
            "derived": {"input": {"kind": "holes"}, "edges": {"kind": "edges", "sigma": 0.5}},
        },
        "eval": {"interval_kimg": 0.032, "samples": 8, "reference_samples": 16, "pairs": ["psnr"]},
    },
    "upscaling": {
        "task": "translation",
        "target": "image",
        "generator": {"kind": "srresnet", "width": 4, "blocks": 1, "scale": 2},
        "discriminator": {"kind": "vgg", "width": 4},
        "conditional": False,
        "objective": {"adversary_from_kimg": 0.01, "terms": {"l1": {"weight": 10}}},
        "data": {
            "path": "one",
            "resolution": 16,
            "flip": True,
            "derived": {
                "small": {"kind": "downscale", "scale": 2},
                "input": {"kind": "noise", "of": "small"},
            },
        },
        "eval": {"interval_kimg": 0.032, "samples": 8, "reference_samples": 16, "pairs": ["psnr"]},
    },
    "sounds": {
        "task": "synthesis",
        "field": "sound",
        "generator": {"kind": "wavegan", "width": 4, "z_dim": 8},
        "discriminator": {"kind": "wavegan", "width": 4},
        "augment": {"kind": "phase_shift", "samples": 3},
        "objective": {"adversarial": "wasserstein", "terms": {"wgan_gp": {}}},
        "data": {
            "path": "sounds",
            "resolution": 1,
            "fields": {"sound": {"kind": "audio", "shape": [1, 256]}},
        },
        "eval": {"interval_kimg": 0.032, "samples": 8, "reference_samples": 16, "extractor": PROBE},
    },
    "spectrograms": {
        "task": "synthesis",
        "field": "spectrogram",
        "generator": {"kind": "dcgan", "width": 4, "z_dim": 8, "norm": "none"},
        "discriminator": {"kind": "dcgan", "width": 4, "norm": "none"},
        "data": {
            "path": "sounds",
            "fields": {"sound": {"kind": "audio", "shape": [1, 256]}},
            "derived": {"spectrogram": {"kind": "spectrogram", "of": "sound", "n_fft": 32, "hop": 16, "iterations": 2}},
        },
        "eval": {"interval_kimg": 0.032, "samples": 8, "reference_samples": 16, "extractor": PROBE},
    },
    "volumes": {
        "task": "synthesis",
        "field": "volume",
        "generator": {"kind": "gan3d", "width": 4, "z_dim": 8},
        "discriminator": {"kind": "gan3d", "width": 4},
        "objective": {"adversarial": "wasserstein", "terms": {"wgan_gp": {}}},
        "data": {
            "path": "volumes",
            "resolution": 8,
            "fields": {"volume": {"kind": "array", "shape": [1, 8, 8, 8], "dtype": "float32"}},
        },
        "eval": {"interval_kimg": 0, "samples": 8},
    },
    "clips": {
        "task": "synthesis",
        "field": "clip",
        "generator": {"kind": "mocogan", "base": {"kind": "dcgan", "width": 4, "z_dim": 8}, "motion_dim": 4},
        "discriminator": {"kind": "mocogan", "base": {"kind": "dcgan", "width": 4}, "width": 4},
        "data": {"path": "clips", "fields": {"clip": {"kind": "video", "shape": [4, 1, 8, 8]}}},
        "eval": {"interval_kimg": 0, "samples": 8},
    },
    "points": {
        "task": "synthesis",
        "field": "points",
        "generator": {"kind": "rgan", "z_dim": 4, "hidden": [16]},
        "discriminator": {"kind": "rgan", "widths": [8, 16], "hidden": [8]},
        "data": {"path": "points", "fields": {"points": {"kind": "array", "shape": [24, 3]}}},
        "eval": {
            "interval_kimg": 0.032,
            "samples": 8,
            "reference_samples": 8,
            "extractor": "values",
            "metrics": ["chamfer", "emd"],
        },
    },
    "views": {
        "task": "synthesis",
        "field": "dual",
        "condition": {"field": "camera", "low": [-1.0, -1.0], "high": [1.0, 1.0]},
        "generator": {
            "kind": "eg3d",
            "base": {"kind": "stylegan2", "z_dim": 8, "w_dim": 8, "channel_base": 128, "channel_max": 8},
            "planes": 8,
            "features": 4,
            "channels": 6,
            "resolution": 8,
            "coarse_samples": 4,
            "fine_samples": 4,
            "width": 8,
        },
        "discriminator": {"kind": "stylegan2", "channel_base": 128, "channel_max": 8, "mbstd_group": 2},
        "data": {
            "path": "views",
            "resolution": 16,
            "fields": {"image": {"kind": "image"}, "pose": {"kind": "array", "shape": [2], "dtype": "float32"}},
            "derived": {"camera": {"kind": "orbit_camera"}, "dual": {"kind": "dual", "resolution": 8}},
        },
        "eval": {"interval_kimg": 0.032, "samples": 8, "reference_samples": 8},
    },
    "latents": {
        "task": "synthesis",
        "field": "latent",
        "generator": {**BIGGAN, "z_dim": 8},
        "discriminator": {"kind": "biggan", "width": 4, "multiples": [1, 2], "halvings": 1},
        "data": {
            "path": "latents",
            "resolution": 8,
            "fields": {"latent": {"kind": "array", "shape": [16, 8, 8], "dtype": "float32"}},
        },
        "eval": {"interval_kimg": 0, "samples": 8},
    },
}


QUICK = ("translation", "unpaired", "upscaling", "sounds", "points")
"""What is not slow: pairs, streams, a change of stage, and scores of two kinds."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 40, *IMAGE.shape), dtype=np.uint8)
    latents = rng.standard_normal((40, *LATENT.shape)).astype(np.float32)
    sounds = rng.integers(-9000, 9000, (40, *SOUND.shape), dtype=np.int16)
    pairs = {"input": images[0], "target": images[1]}
    for name, arrays, spec in (
        ("pairs", pairs, IMAGE),
        ("one", {"image": images[1]}, IMAGE),
        ("other", {"image": images[2]}, IMAGE),
        ("latents", {"latent": latents}, LATENT),
        ("sounds", {"sound": sounds}, SOUND),
        ("points", {"points": latents.reshape(40, -1)[:, :72].reshape(40, *POINTS.shape)}, POINTS),
        ("clips", {"clip": images[[0, 1, 2, 1], :, :1, :8, :8].swapaxes(0, 1)}, CLIP),
        ("volumes", {"volume": np.sign(latents[:, :8, None].swapaxes(1, 2))}, VOLUME),
    ):
        source = from_fields(name, arrays, dict.fromkeys(arrays, spec))
        write_shards(source, folder / name, ShardOptions(shard_samples=10))
    poses = rng.uniform(-1, 1, (40, 2)).astype(np.float32)
    views = from_fields("views", {"image": images[0], "pose": poses}, {"image": IMAGE, "pose": POSE})
    write_shards(views, folder / "views", ShardOptions(shard_samples=10))
    about = About("sound", SOUND, ("a", "b"), "none", "none", 0.5, 1, 1, 0, 1)
    write_probe(folder / "probe.safetensors", ProbeNetwork(SOUND, 2, levels=1), about)
    return folder


def config_of(name: str, data: Path, folder: Path, **changes: Any) -> Any:
    """Return the config of a run, its data found in a folder."""

    def located(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: str(data / value) if key == "path" else located(value) for key, value in tree.items()}
        return f"file:{data / 'probe.safetensors'}" if tree == PROBE else tree

    return parse_training(located({**COMMON, **RUNS[name], **changes, "run_dir": str(folder)}), source="test")


def run(name: str, data: Path, folder: Path, until: int, *, killed: bool = False, **changes: Any) -> None:
    config = config_of(name, data, folder, **changes)
    check(config, world_size=dist.get_world_size(), allow_change=False)
    barrier()
    if is_rank_zero():
        open_run_folder(config)
    barrier()
    trainer = build(config, Ranks(dist.get_rank(), dist.get_world_size(), dist.get_rank(), torch.device("cpu")), folder)
    trainer.early_stop.stop_at = until * trainer.progress.batch
    if killed:
        die_after_three_steps(trainer)
    trainer.run()


def die_after_three_steps(trainer: Trainer) -> None:
    """Let a rank kill itself, as `kill -9` does, once the checkpoint of the second step lies there."""
    take_step = trainer.take_step

    def take_or_die() -> StepResult:
        if trainer.progress.samples_seen == 2 * trainer.progress.batch:
            trainer.saving.wait()
        if trainer.progress.samples_seen == 3 * trainer.progress.batch:
            os.kill(os.getpid(), signal.SIGKILL)
        return take_step()

    vars(trainer)["take_step"] = take_or_die


OFTEN = {"checkpoint": {"interval_kimg": 0.008}}


def killed(root: Path, data: Path) -> None:
    run("unpaired", data, root / "killed-unpaired", STEPS, killed=True, **OFTEN)


def with_and_without_a_stop(root: Path, data: Path, names: Sequence[str]) -> None:
    for name in names:
        run(name, data, root / f"straight-{name}", STEPS)
        run(name, data, root / f"resumed-{name}", STEPS // 2)
        run(name, data, root / f"resumed-{name}", STEPS)
    if (root / "killed-unpaired").exists():
        run("unpaired", data, root / "killed-unpaired", STEPS, **OFTEN)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.raises(RuntimeError, match="ended with exit code -9"):
        on_ranks(2, killed, folder, folder, data)
    on_ranks(2, with_and_without_a_stop, folder, folder, data, QUICK)
    return folder


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("more")
    on_ranks(2, with_and_without_a_stop, folder, folder, data, [name for name in RUNS if name not in QUICK])
    return folder


@pytest.mark.parametrize("name", QUICK)
def test_a_run_resumes_to_the_same_bits(root: Path, name: str) -> None:
    assert differences(root / f"straight-{name}", root / f"resumed-{name}") == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RUNS if name not in QUICK])
def test_a_run_of_more_fields_resumes_to_the_same_bits(more: Path, name: str) -> None:
    assert differences(more / f"straight-{name}", more / f"resumed-{name}") == []


def test_two_streams_survive_a_kill_to_the_bit(root: Path) -> None:
    assert differences(root / "straight-unpaired", root / "killed-unpaired") == []
    resumed = [event for event in read_events(root / "killed-unpaired") if event["event"] == "resumed"]
    assert len(resumed) == 1, "it went on from a checkpoint, not from the start"


def test_pairs_are_scored_and_shown(root: Path) -> None:
    folder = root / "straight-translation"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    scores = {line["key"] for line in lines if line["kind"] == "score"}
    assert {"eval/psnr", "eval/perceptual_efflite0"} <= scores
    assert list((folder / "images" / "samples").glob("target-*.png"))
    assert load_snapshot(folder / "snapshots" / "best").networks, "eval.best names a score of pairs"


@pytest.mark.parametrize(("name", "key"), [("sounds", "heard"), ("points", "moving"), ("translation", None)])
def test_what_sounds_or_moves_is_recorded(root: Path, name: str, key: str | None) -> None:
    folder = root / f"straight-{name}"
    recordings = [record["file"] for record, _ in read_records(folder / FILE_NAME, kinds=("recording",))]
    suffix = "wav" if key == "heard" else "mp4"
    places = ("00000.000", "00000.032") if key else ()
    assert recordings == [f"images/samples/{key}-kimg{place}.{suffix}" for place in places]
    assert all((folder / file).stat().st_size > 1000 for file in recordings)


def test_sounds_are_scored_by_a_probe(root: Path) -> None:
    lines = [json.loads(line) for line in (root / "straight-sounds" / "metrics.jsonl").read_text().splitlines()]
    assert any(re.match(r"eval/fid8_probe-[0-9a-f]{8}$", line["key"]) for line in lines if line["kind"] == "score")


def test_point_clouds_are_scored_by_their_distances(root: Path) -> None:
    lines = [json.loads(line) for line in (root / "straight-points" / "metrics.jsonl").read_text().splitlines()]
    scores = {line["key"] for line in lines if line["kind"] == "score"}
    assert {f"eval/{name}8_values" for name in ("chamfer_mmd", "chamfer_1nna", "emd_coverage")} <= scores


def test_snapshots_hold_all_networks(root: Path) -> None:
    (folder,) = (root / "straight-unpaired" / "snapshots").glob("kimg*")
    assert {path.name for path in folder.glob("*.safetensors")} == {
        f"{name}.safetensors" for name in ("G_AB", "G_BA", "D_A", "D_B")
    }
    assert load_snapshot(folder).networks.keys() == {"G_AB", "G_BA"}

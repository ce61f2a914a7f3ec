"""Train tiny networks of any task by `take_step`, on random samples: for tests of what a task computes."""

from typing import Any

import torch
import torch.distributed as dist

from bigtrain.augment.derived.base import DerivedField, derived_specs
from bigtrain.augment.derived.cameras import OrbitCameraConfig
from bigtrain.augment.derived.dual import DualConfig
from bigtrain.core.batch import Batch
from bigtrain.core.config import parse_config
from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress, State, Stateful
from bigtrain.distributed.collectives import RunningMeans
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.statistics import synchronise_statistics
from bigtrain.engine.made_up import random_batch
from bigtrain.engine.step import take_step
from bigtrain.engine.task import TaskConfig
from bigtrain.strategies import strategy_of
from bigtrain.tasks.stylisation import StylisationConfig
from bigtrain.tasks.synthesis import SynthesisConfig
from bigtrain.tasks.translation import TranslationConfig
from bigtrain.tasks.unpaired import UnpairedConfig
from data_pipelines.fields.spec import FieldSpec
from tests.training import CPU, by_name

IMAGE = FieldSpec("image", (1, 16, 16), "uint8")
COLOUR = FieldSpec("image", (3, 16, 16), "uint8")
# With its usual epsilon Adam makes a full step of either sign out of a gradient that is only rounding.
ADAM = {"lr": 1e-3, "beta1": 0.5, "eps": 1e-4}
POSE = FieldSpec("array", (2,), "float32")
VIEWS: dict[str, DerivedField] = {
    "camera": OrbitCameraConfig(kind="orbit_camera"),
    "dual": DualConfig(kind="dual", resolution=8),
}
COMMON = {"optim": {"G": ADAM, "D": ADAM}, "global_batch": 8}
TERMS = {"wgan_gp": {}, "l2": {}, "feature_matching": {}, "perceptual": {"depths": [1, 2]}}
PATCH = {"kind": "patch", "width": 4, "layers": 1, "norm": "instance"}
RESNET = {"kind": "resnet_translator", "width": 4, "blocks": 1}
TASKS: dict[str, tuple[type[TaskConfig], dict[str, Any], dict[str, FieldSpec]]] = {
    "pix2pix": (
        TranslationConfig,
        {
            "generator": {"kind": "pix2pix_unet", "width": 4, "downs": 3, "norm": "instance"},
            "discriminator": PATCH,
            "objective": {"discriminator_weight": 0.5, "terms": {"l1": {"weight": 10}}},
            **COMMON,
        },
        {"input": IMAGE, "target": IMAGE},
    ),
    "pix2pix_penalised": (
        TranslationConfig,
        {
            "generator": RESNET,
            "discriminator": {"kind": "pixel", "width": 4, "norm": "none"},
            "objective": {"adversarial": "wasserstein", "terms": TERMS},
            **COMMON,
        },
        {"input": IMAGE, "target": IMAGE},
    ),
    "spade": (
        TranslationConfig,
        {
            "generator": {
                "kind": "label_map",
                "labels": 255,  # random maps have all of them
                "base": {"kind": "spade", "width": 2, "doublings": 2, "hidden": 4},
            },
            "discriminator": {
                "kind": "label_map",
                "labels": 255,
                "base": {"kind": "multi_scale_patch", "base": {**PATCH, "spectral": True}},
            },
            "objective": {
                "adversarial": "hinge",
                "terms": {"feature_matching": {"weight": 10, "distance": "l1"}, "perceptual": {"depths": [1, 2]}},
            },
            **COMMON,
        },
        {"input": IMAGE, "target": IMAGE},
    ),
    "edges_first": (
        TranslationConfig,
        {
            "generator": {"kind": "edge_inpainter", "edges": RESNET, "image": RESNET, "sigma": 0.5},
            "discriminator": PATCH,
            "objective": {"adversarial": "hinge", "terms": {"l1": {}, "perceptual": {"depths": [1, 2], "gram": 100}}},
            "first_stage": {
                "target": "edges",
                "condition": "grey",
                "discriminator": PATCH,
                "objective": {"terms": {"feature_matching": {"distance": "l1"}, "r1": {"gamma": 1.0}}},
            },
            **COMMON,
        },
        {"input": FieldSpec("image", (4, 16, 16), "uint8"), "target": COLOUR, "grey": IMAGE, "edges": IMAGE},
    ),
    "vocoder": (
        TranslationConfig,
        {
            "generator": {"kind": "hifigan", "width": 8, "rates": [8, 8], "kernels": [16, 16], "block": 2},
            # No scales: the first one's spectral norm moves in every forward, so micro-batches are a part of it.
            "discriminator": {"kind": "hifigan", "periods": [2, 3], "period_widths": [4, 8], "scales": 0},
            "conditional": False,
            "objective": {
                "adversarial": "least_squares",
                "adversarial_weight": 2.0,
                "terms": {
                    "mel": {"rate": 8000, "n_fft": 256, "hop": 64, "window": 256, "bands": 16},
                    "feature_matching": {"weight": 2.0, "distance": "l1"},
                },
            },
            **COMMON,
        },
        {"input": FieldSpec("array", (16, 16), "float32"), "target": FieldSpec("audio", (1, 1024), "int16", rate=8000)},
    ),
    "cyclegan": (
        UnpairedConfig,
        {
            "generator": RESNET,
            "discriminator": PATCH,
            "objective": {
                "adversarial": "least_squares",
                "adversarial_weight": 2.0,
                "terms": {"identity": {}},
                "pool": 12,
            },
            **COMMON,
        },
        {"A.image": IMAGE, "B.image": IMAGE},
    ),
    "cut": (
        UnpairedConfig,
        {
            "one_sided": True,
            "generator": {**RESNET, "blocks": 2},
            "discriminator": PATCH,
            "objective": {
                "adversarial": "least_squares",
                "adversarial_weight": 2.0,
                "terms": {"cycle": None, "patch_nce": {"layers": [0, 2, 4], "patches": 12, "width": 8}},
                "flip_equivariance": True,
                "pool": 0,
            },
            **COMMON,
        },
        {"A.image": IMAGE, "B.image": IMAGE},
    ),
    "stylisation": (
        StylisationConfig,
        {
            "generator": {"kind": "adain", "width": 4, "convolutions": 1},
            "discriminator": PATCH,
            "objective": {"adversarial": "least_squares", "adversarial_weight": 0.5, "terms": {"r1": {"gamma": 1.0}}},
            **COMMON,
        },
        {"content.image": COLOUR, "style.image": COLOUR},
    ),
    "point_clouds": (
        SynthesisConfig,
        {
            "field": "points",
            "generator": {"kind": "rgan", "z_dim": 4, "hidden": [16]},
            "discriminator": {"kind": "rgan", "widths": [8, 16], "hidden": [8]},
            "objective": {"terms": {"r1": {"gamma": 1.0}}},
            **COMMON,
        },
        {"points": FieldSpec("array", (24, 3), "float32")},
    ),
    "clips": (
        SynthesisConfig,
        {
            "field": "video",
            "generator": {
                "kind": "mocogan",
                "base": {"kind": "dcgan", "z_dim": 6, "width": 4, "norm": "layer"},
                "motion_dim": 4,
                "noise_dim": 3,
            },
            "discriminator": {
                "kind": "mocogan",
                "base": {"kind": "dcgan", "width": 4, "norm": "none"},
                "width": 4,
                "norm": "layer",
            },
            "objective": {"terms": {"r1": {"gamma": 1.0}}},
            **COMMON,
        },
        {"video": FieldSpec("video", (4, 1, 8, 8), "uint8")},
    ),
    "views": (
        SynthesisConfig,
        {
            "field": "dual",
            "condition": {"field": "camera", "low": [-1.0, -0.5], "high": [1.0, 0.5]},
            "generator": {
                "kind": "eg3d",
                "base": {
                    "kind": "stylegan2",
                    "z_dim": 4,
                    "w_dim": 8,
                    "mapping_layers": 1,
                    "channel_base": 128,
                    "channel_max": 8,
                },
                "planes": 8,
                "features": 4,
                "hidden": 8,
                "channels": 6,
                "resolution": 8,
                "coarse_samples": 4,
                "fine_samples": 2,
                "width": 6,
            },
            "discriminator": {
                "kind": "stylegan2",
                "channel_base": 128,
                "channel_max": 8,
                "mapping_layers": 1,
                "mbstd_group": 1,
                "mbstd_channels": 0,
            },
            "objective": {"terms": {"r1": {"gamma": 1.0}}},
            **COMMON,
        },
        {"image": COLOUR, "pose": POSE, **derived_specs(VIEWS, {"image": COLOUR, "pose": POSE})},
    ),
    "tgan": (
        SynthesisConfig,
        {
            "field": "video",
            "generator": {
                "kind": "tgan",
                "base": {"kind": "dcgan", "z_dim": 8, "width": 4, "norm": "layer"},
                "frame_dim": 4,
                "width": 8,
                "norm": "layer",
            },
            "discriminator": {"kind": "tgan", "width": 4, "norm": "none"},
            "objective": {"adversarial": "wasserstein", "terms": {"wgan_gp": {}}},
            **COMMON,
        },
        {"video": FieldSpec("video", (4, 1, 8, 8), "uint8")},
    ),
    "frame_prediction": (
        TranslationConfig,
        {
            "generator": {"kind": "dvdgan_fp", "width": 2, "multiples": [2, 2, 1], "z_dim": 6, "encoder_width": 2},
            "discriminator": {
                "kind": "dvdgan_fp",
                "width": 2,
                "multiples": [1, 2],
                "temporal_multiples": [1, 2, 2],
                "frames": 2,
            },
            "objective": {"adversarial": "hinge", "terms": {"l1": {}}},
            **COMMON,
        },
        {"input": FieldSpec("video", (2, 1, 16, 16), "uint8"), "target": FieldSpec("video", (3, 1, 16, 16), "uint8")},
    ),
    "dvdgan": (
        SynthesisConfig,
        {
            "field": "video",
            "generator": {"kind": "dvdgan", "width": 2, "multiples": [2, 2, 1], "z_dim": 6, "shared_dim": 4},
            "discriminator": {
                "kind": "dvdgan",
                "width": 2,
                "multiples": [1, 2],
                "temporal_multiples": [1, 2, 2],
                "frames": 2,
            },
            "objective": {"adversarial": "hinge"},
            **COMMON,
        },
        {"video": FieldSpec("video", (4, 1, 16, 16), "uint8"), "class": FieldSpec("class", (), "int64", ("a", "b"))},
    ),
}


MICRO_BATCHES_MATTER = frozenset({"spade", "dvdgan", "frame_prediction"})
"""Their statistics or spectral norms move in every forward, so that the number of micro-batches is a part of them."""


class TaskTraining:
    """Players, strategies and batches of one rank.

    Args:
        name: of `TASKS`.
        strategy: of all players, see `tests.training.by_name`.
        global_batch: samples of a batch over all ranks.
        micro_batch: samples that are computed at once.
        seed: of the weights.
        changes: of the config.
    """

    def __init__(
        self,
        name: str,
        *,
        strategy: str = "single",
        global_batch: int = 8,
        micro_batch: int = 4,
        seed: int = 0,
        **changes: Any,
    ) -> None:
        torch.manual_seed(seed)
        schema, config, self.fields = TASKS[name]
        self.config = parse_config(schema, {**config, **changes}, source="test")
        rank, world_size = dist.get_rank(), dist.get_world_size()
        self.global_batch, self.micro_batch = global_batch, micro_batch
        self.share = slice(rank * global_batch // world_size, (rank + 1) * global_batch // world_size)
        self.task = self.config.build_task(self.fields, {}, seed=seed, device=CPU)
        for network in self.task.frozen():
            network.load(CPU)
        self.strategies = {}
        for player, module in self.task.players.items():
            synchronise_statistics(module, world_size)
            accumulation = global_batch // world_size // micro_batch
            build = strategy_of(by_name(strategy), player).build
            ranks = Ranks(rank, world_size, rank, CPU)
            self.strategies[player] = build(module, self.task.optimizers[player], "fp32", accumulation, ranks)
        self.progress, self.means = Progress(10_000, global_batch), RunningMeans()
        self.start = self.weights()

    def batch(self) -> Batch:
        """Return this rank's share of the next global batch."""
        index = torch.arange(self.progress.samples_seen, self.progress.samples_seen + self.global_batch)
        return random_batch(self.fields, Draws(1, index[self.share], "data"))

    def run(self, steps: int) -> dict[str, Any]:
        """Take some steps; return the weights before and after, and the means of what was measured."""
        for _ in range(steps):
            result = take_step(
                self.task,
                self.strategies,
                [self.batch()],
                self.progress,
                micro_batch=self.micro_batch,
                global_batch=self.global_batch,
            )
            for told in result.stats:
                self.means.add(told)
        return {"start": self.start, "weights": self.weights(), "means": self.means.read()}

    def weights(self) -> dict[str, torch.Tensor]:
        """Return copies of all parameters. Collective where sharded."""
        names = {name: dict(player.named_parameters()) for name, player in self.task.players.items()}
        return {
            f"{name}.{key}": value.detach().clone()
            for name, strategy in self.strategies.items()
            for key, value in strategy.full_params()
            if key in names[name]
        }

    def parts(self) -> dict[str, Stateful]:
        """Return what a checkpoint holds."""
        return {"progress": self.progress, **self.strategies, **self.task.stateful()}

    def state_dict(self) -> State:
        """Return the state of all parts. Collective."""
        return {name: part.state_dict() for name, part in self.parts().items()}

    def load_state_dict(self, state: State) -> None:
        """Go on from a state."""
        for name, part in self.parts().items():
            part.load_state_dict(state[name])

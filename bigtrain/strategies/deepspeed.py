"""DeepSpeed's ZeRO: a rank keeps its share of Adam's moments (stage 1), of gradients (2), of weights (3).

DeepSpeed's own JSON is generated here from our config, so that both cannot say different things.
"""

import importlib.util
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, PositiveFloat, model_validator

from bigtrain.core.config import ConfigError, nearest
from bigtrain.distributed.init import Ranks
from bigtrain.engine.optimizers import OptimizerConfig
from bigtrain.engine.player import Player
from bigtrain.engine.strategy import Capability, Strategy
from bigtrain.strategies.base import NOT_COMPILED, Precision, StrategySettings
from bigtrain.strategies.plans.base import StrategyPlan
from bigtrain.strategies.plans.work import Sizes
from bigtrain.strategies.plans.zero import ZeROPlan

PASSED_ON = frozenset(
    {
        "aio",
        "comms_logger",
        "communication_data_type",
        "dump_state",
        "flops_profiler",
        "gradient_predivide_factor",
        "memory_breakdown",
        "prescale_gradients",
        "steps_per_print",
        "wall_clock_breakdown",
        "zero_optimization",
    }
)
"""Keys at the top of DeepSpeed's JSON that `extra` may have."""

DECIDED_BY = {
    "train_batch_size": "global_batch",
    "train_micro_batch_size_per_gpu": "micro_batch",
    "gradient_accumulation_steps": "global_batch and micro_batch",
    "managed_gradient_accumulation": "the training loop",
    "gradient_clipping": "optim.PLAYER.clip_norm",
    "optimizer": "optim",
    "scheduler": "optim's schedules",
    "fp16": "precision",
    "bf16": "precision",
    "amp": "precision",
    "torch_autocast": "precision",
    "data_types": "precision",
    "tensorboard": "tracking",
    "wandb": "tracking",
    "csv_monitor": "tracking",
    "checkpoint": "checkpoint",
    "zero_optimization.stage": "stage",
    "zero_optimization.overlap_comm": "stage (2 overlaps)",
    "zero_optimization.reduce_bucket_size": "bucket_mb",
    "zero_optimization.allgather_bucket_size": "bucket_mb",
    "zero_optimization.offload_optimizer": "offload_optimizer",
}
"""Keys that `extra` may not have, because another of ours, or the loop, says it already."""


class DeepSpeedConfig(StrategySettings):
    """Train with DeepSpeed's ZeRO.

    Attributes:
        stage: what is sharded: 0 nothing, 1 the moments, 2 also the gradients, 3 also the weights.
        gather: how stage 3 gathers weights. `phase` gathers those of a player for the whole of its phase, and supports
            second derivatives; `module` gathers those of a module while it computes, which needs the least memory but
            supports no second derivatives.
        offload_optimizer: whether the moments are stored, and Adam's step is computed, in host memory.
        bucket_mb: approximate size of messages with gradients and weights, in MiB.
        extra: further keys of DeepSpeed's JSON, for example `{zero_optimization: {round_robin_gradients: true}}`.
    """

    kind: Literal["deepspeed"] = "deepspeed"
    stage: Literal[0, 1, 2, 3] = 1
    gather: Literal["phase", "module"] = "phase"
    offload_optimizer: bool = False
    bucket_mb: PositiveFloat = 25.0
    extra: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _keys_fit(self) -> "DeepSpeedConfig":
        if self.offload_optimizer and self.stage == 0:
            raise ValueError("offload_optimizer needs stage 1, 2 or 3: stage 0 keeps Adam where the weights are")
        if self.gather == "module" and self.stage != 3:
            raise ValueError(f"gather 'module' is for stage 3: at stage {self.stage} the weights are not sharded")
        zero = self.extra.get("zero_optimization", {})
        if not isinstance(zero, Mapping):
            raise ValueError(f"extra.zero_optimization must be a mapping of keys to values, not {zero!r}")
        for key in [*self.extra, *(f"zero_optimization.{name}" for name in zero)]:
            if key in DECIDED_BY:
                raise ValueError(f"extra.{key} is set by {DECIDED_BY[key]}: leave it out")
            if "." not in key and key not in PASSED_ON:
                raise ValueError(
                    f"extra.{key} is not a key that can be passed to DeepSpeed" + nearest(key, sorted(PASSED_ON))
                )
        return self

    @property
    def lacks(self) -> dict[Capability, str]:
        """See StrategySettings."""
        lacking: dict[Capability, str] = {
            "pure_bf16": "keeps no weights in bfloat16: use precision 'bf16'",
            "fp16": "has no loss scaling here: use precision 'bf16'",
            "compile": NOT_COMPILED,
        }
        if self.gather == "module":
            lacking["double_backward"] = (
                "with gather 'module' has no double backward: use gather 'phase', or for r1 and r2 "
                "method 'central_difference' or 'approximate'"
            )
        return lacking

    def check_installed(self) -> None:
        """Raise ConfigError where DeepSpeed is not installed, or does not know what `extra` says."""
        if importlib.util.find_spec("deepspeed") is None:
            raise ConfigError(
                "kind 'deepspeed' needs DeepSpeed, which is not installed: pip install bigtrain[deepspeed]"
            )
        if "zero_optimization" in self.extra:
            from bigtrain.strategies.zero import problem_with

            problem = problem_with(self.deepspeed_json(1, None))
            if problem:
                raise ConfigError(f"extra.zero_optimization{problem}")

    def build(
        self, player: Player, optimizer: OptimizerConfig, precision: Precision, accumulation: int, ranks: Ranks
    ) -> Strategy:
        """Hand a player to DeepSpeed. Collective: rank 0's weights go to all."""
        from bigtrain.strategies.zero import ZeROStrategy  # DeepSpeed takes seconds to import

        settings = self.deepspeed_json(accumulation, optimizer.clip_norm)
        return ZeROStrategy(player, optimizer, precision, settings, ranks, whole_phase=self.gather == "phase")

    def plan(
        self, sizes: Sizes, optimizer: OptimizerConfig, ranks: int, precision: Precision, accumulation: int
    ) -> StrategyPlan:
        """See StrategySettings."""
        return ZeROPlan(
            sizes,
            optimizer,
            ranks,
            precision,
            accumulation,
            stage=self.stage,
            offloaded=self.offload_optimizer,
            bucket_mb=self.bucket_mb,
        )

    def deepspeed_json(self, accumulation: int, clip_norm: float | None) -> dict[str, Any]:
        """Return DeepSpeed's config.

        Args:
            accumulation: micro-batches a step.
            clip_norm: bound on the gradient's norm, or None.
        """
        elements = int(self.bucket_mb * 2**20 / 4)
        ours = {
            "train_micro_batch_size_per_gpu": 1,  # only its own bookkeeping reads it
            "gradient_accumulation_steps": accumulation,
            # The loop knows the last micro-batch, and calls step() once.
            "managed_gradient_accumulation": False,
            # DeepSpeed's own default bounds the norm at 1; at stage 0 our Adam does it.
            "gradient_clipping": (clip_norm or 0.0) if self.stage else 0.0,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "zero_optimization": {
                "stage": self.stage,
                "overlap_comm": self.stage == 2,
                # DeepSpeed's own default is 2 GB.
                "reduce_bucket_size": elements,
                "allgather_bucket_size": elements,
                **({"offload_optimizer": {"device": "cpu"}} if self.offload_optimizer else {}),
                **({"stage3_param_persistence_threshold": 0} if self.stage == 3 else {}),
            },
        }
        return _merged(ours, self.extra)


def _merged(ours: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**ours, **extra}
    for key in ours.keys() & extra.keys():
        if isinstance(ours[key], Mapping):
            merged[key] = _merged(ours[key], extra[key])
    return merged

"""What `accelerate launch` read in the user's config must mean the same here, or be refused with the key of ours."""

from collections.abc import Iterator, Mapping

from bigtrain.config import TrainingConfig
from bigtrain.core.config import ConfigError
from bigtrain.core.launchers import place_from_environment

_PRECISIONS = {"bf16": ("bf16", "pure_bf16"), "fp16": ("fp16",)}
"""Accelerate's `mixed_precision` -> values of `precision` that are as good."""
_UNKNOWN = {
    "ACCELERATE_USE_MEGATRON_LM": ("megatron_lm_config", "strategy: {kind: fsdp} or {kind: deepspeed, stage: 3}"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": ("parallelism_config", "strategy: {kind: fsdp, shard_ranks: N}"),
}


def check_accelerate(config: TrainingConfig, environment: Mapping[str, str]) -> None:
    """Compare a run's config with what accelerate was told, where it has started this rank.

    Raises:
        ConfigError: they differ, or accelerate did not start the ranks that it was told of.
    """
    if "ACCELERATE_MIXED_PRECISION" not in environment:
        return
    for key, said, problem in _differences(config, environment):
        raise ConfigError(f"accelerate's config says {key}: {said}, {problem}, or change it there (accelerate config)")


def _differences(config: TrainingConfig, environment: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Iterate over accelerate's key, its value, and what to set here instead."""
    _, world_size, _ = place_from_environment(environment)
    if _is_set(environment, "ACCELERATE_USE_CPU") and environment.get("MASTER_PORT") and world_size == 1:
        yield (
            "num_processes",
            "several, on CPUs",
            "for which it starts only one process: use bigtrain train --nproc N, or torchrun",
        )
    for variable, (key, ours) in _UNKNOWN.items():
        if _is_set(environment, variable):
            yield key, "to be used", f"which bigtrain does not read: set {ours}"
    precision = environment["ACCELERATE_MIXED_PRECISION"]
    if precision != "no" and config.precision not in _PRECISIONS.get(precision, ()):
        ours = precision if precision in _PRECISIONS else "bf16"
        yield (
            "mixed_precision",
            precision,
            f"but precision is {config.precision} in the run's config: set precision={ours}",
        )
    backend = environment.get("ACCELERATE_DYNAMO_BACKEND", "NO").upper()
    if backend != "NO" and not getattr(config, "compile", False):
        yield "dynamo_backend", backend.lower(), "but compile is false in the run's config: set compile=true"
    yield from _strategies(config, environment)
    clipping = environment.get("ACCELERATE_GRADIENT_CLIPPING", "none")
    for player, optimizer in config.optim.items():
        if clipping not in ("none", "false") and str(optimizer.clip_norm) != str(float(clipping)):
            yield "gradient_clipping", clipping, f"but not in the run's config: set optim.{player}.clip_norm={clipping}"
    steps = environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if steps.isdecimal() and int(steps) > 1 and config.micro_batch != "auto":
        ours = str(config.accumulation(world_size))
        if ours != steps:
            size = config.global_batch // (world_size * int(steps)) or 1
            yield "gradient_accumulation_steps", steps, f"but micro_batch makes it {ours}: set micro_batch={size}"


def _strategies(config: TrainingConfig, environment: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    strategies = list(config.strategy.values()) if isinstance(config.strategy, dict) else [config.strategy]
    kinds = {one.kind for one in strategies}
    stages = {str(getattr(one, "stage", 0)) for one in strategies}
    offloads = {bool(getattr(one, "offload_optimizer", False)) for one in strategies}
    here = f"but strategy is {', '.join(sorted(kinds))}"
    if _is_set(environment, "ACCELERATE_USE_FSDP") and kinds != {"fsdp"}:
        yield "distributed_type", "FSDP", f"{here}: set strategy='{{kind: fsdp}}'"
    if not _is_set(environment, "ACCELERATE_USE_DEEPSPEED"):
        return
    stage = environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    if "ACCELERATE_DEEPSPEED_CONFIG_FILE" in environment:
        file = environment["ACCELERATE_DEEPSPEED_CONFIG_FILE"]
        yield (
            "deepspeed_config_file",
            file,
            "which bigtrain does not read: set strategy='{kind: deepspeed, extra: {…}}'",
        )
    if kinds != {"deepspeed"}:
        yield "distributed_type", "DEEPSPEED", f"{here}: set strategy='{{kind: deepspeed, stage: {stage}}}'"
    elif stages != {stage}:
        found = ", ".join(sorted(stages))
        yield "zero_stage", stage, f"but strategy.stage is {found}: set strategy.stage={stage}"
    device = environment.get("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "none")
    if (device != "none") not in offloads:
        yield "offload_optimizer_device", device, f"set strategy.offload_optimizer={str(device != 'none').lower()}"
    device = environment.get("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "none")
    if device != "none":
        yield "offload_param_device", device, "for which bigtrain has no key: set none there"


def _is_set(environment: Mapping[str, str], variable: str) -> bool:
    return environment.get(variable, "").lower() in ("true", "1")

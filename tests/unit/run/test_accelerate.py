"""What accelerate's own config says is meant here too, or refused with our key; the configs go through accelerate."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import (
    prepare_deepspeed_cmd_env,
    prepare_multi_gpu_env,
    prepare_simple_launcher_cmd_env,
)

from bigtrain.config import TrainingConfig, load_training
from bigtrain.core.config import ConfigError
from bigtrain.run.accelerate import check_accelerate
from tests.conftest import ROOT

COMMON = {
    "compute_environment": "LOCAL_MACHINE",
    "machine_rank": 0,
    "main_training_function": "main",
    "mixed_precision": "no",
    "num_machines": 1,
    "num_processes": 2,
    "use_cpu": False,
}
DEEPSPEED = {
    "gradient_accumulation_steps": 2,
    "offload_optimizer_device": "none",
    "offload_param_device": "none",
    "zero3_init_flag": False,
    "zero_stage": 2,
}
FSDP = {"fsdp_version": 2, "fsdp_reshard_after_forward": True, "fsdp_offload_params": False}


def environment_of(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> dict[str, str]:
    """What a rank finds in its environment when accelerate starts it by a config file of a user."""
    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        monkeypatch.delenv(name)
    file = folder / "default_config.yaml"
    file.write_text(yaml.safe_dump({**COMMON, **settings}))
    args = launch_command_parser().parse_args(["--config_file", str(file), "-m", "bigtrain.train", "run.yaml"])
    args, _, _ = _validate_launch_command(args)
    if args.use_deepspeed:
        args.deepspeed_fields_from_accelerate_config = ",".join(settings["deepspeed_config"])  # as launch_command does
        found = prepare_deepspeed_cmd_env(args)[1]
    elif args.multi_gpu or args.use_fsdp:
        found = prepare_multi_gpu_env(args)
    else:
        return dict(prepare_simple_launcher_cmd_env(args)[1])
    return {**found, "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}  # torchrun adds these


def config_of(*overrides: str) -> TrainingConfig:
    return load_training(ROOT / "tests" / "tiny.yaml", ["run_dir=run", "data.path=data", "micro_batch=4", *overrides])


@pytest.mark.parametrize(
    ("settings", "overrides"),
    [
        ({"distributed_type": "MULTI_GPU"}, ()),
        ({"distributed_type": "MULTI_GPU", "mixed_precision": "bf16"}, ("precision=bf16",)),
        ({"distributed_type": "DEEPSPEED", "deepspeed_config": DEEPSPEED}, ("strategy={kind: deepspeed, stage: 2}",)),
        ({"distributed_type": "FSDP", "fsdp_config": FSDP}, ("strategy={kind: fsdp}",)),
    ],
)
def test_what_means_the_same_is_let_through(
    settings: dict[str, Any], overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_accelerate(config_of(*overrides), environment_of(tmp_path, monkeypatch, **settings))


@pytest.mark.parametrize(
    ("settings", "overrides", "words"),
    [
        (
            {"distributed_type": "MULTI_CPU", "use_cpu": True},
            (),
            "num_processes: several, on CPUs, for which it starts only one process: use bigtrain train --nproc N",
        ),
        (
            {"distributed_type": "MULTI_GPU", "mixed_precision": "bf16"},
            (),
            "precision is fp32 in the run's config: set precision=bf16",
        ),
        (
            {"distributed_type": "MULTI_GPU", "dynamo_config": {"dynamo_backend": "INDUCTOR"}},
            (),
            "dynamo_backend: inductor, but compile is false in the run's config: set compile=true",
        ),
        (
            {"distributed_type": "DEEPSPEED", "deepspeed_config": DEEPSPEED},
            (),
            "DEEPSPEED, but strategy is ddp: set strategy='{kind: deepspeed, stage: 2}'",
        ),
        (
            {"distributed_type": "DEEPSPEED", "deepspeed_config": {**DEEPSPEED, "zero_stage": 3}},
            ("strategy={kind: deepspeed, stage: 1}",),
            "zero_stage: 3, but strategy.stage is 1: set strategy.stage=3",
        ),
        (
            {"distributed_type": "DEEPSPEED", "deepspeed_config": {**DEEPSPEED, "offload_optimizer_device": "cpu"}},
            ("strategy={kind: deepspeed, stage: 2}",),
            "offload_optimizer_device: cpu, set strategy.offload_optimizer=true",
        ),
        (
            {"distributed_type": "DEEPSPEED", "deepspeed_config": {**DEEPSPEED, "gradient_accumulation_steps": 8}},
            ("strategy={kind: deepspeed, stage: 2}",),
            "gradient_accumulation_steps: 8, but micro_batch makes it 2: set micro_batch=1",
        ),
        (
            {"distributed_type": "DEEPSPEED", "deepspeed_config": {**DEEPSPEED, "gradient_clipping": 1.0}},
            ("strategy={kind: deepspeed, stage: 2}",),
            "gradient_clipping: 1.0, but not in the run's config: set optim.G.clip_norm=1.0",
        ),
        (
            {"distributed_type": "FSDP", "fsdp_config": FSDP},
            (),
            "FSDP, but strategy is ddp: set strategy='{kind: f",
        ),
    ],
)
def test_what_means_something_else_is_one_line_with_our_key(
    settings: dict[str, Any], overrides: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = environment_of(tmp_path, monkeypatch, **settings)
    with pytest.raises(ConfigError) as caught:
        check_accelerate(config_of(*overrides), environment)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_launchers_are_no_matter_of_it() -> None:
    check_accelerate(config_of(), {"RANK": "0", "WORLD_SIZE": "2"})

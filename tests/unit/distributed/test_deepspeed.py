"""DeepSpeed's JSON is ours; what contradicts it, and what is not installed, is told in one line."""

import importlib.util
import re
from typing import Any

import pytest

from bigtrain.config import load_training
from bigtrain.core.config import ConfigError
from bigtrain.strategies import check_strategies
from bigtrain.strategies.deepspeed import DeepSpeedConfig
from tests.conftest import ROOT


def load(strategy: str) -> Any:
    return load_training(ROOT / "tests/tiny.yaml", [f"strategy={strategy}"]).strategy


def test_deepspeeds_json_says_what_our_config_says() -> None:
    """Traps 1 and 2: DeepSpeed's defaults bound the norm at 1, and count micro-batches by themselves."""
    settings = DeepSpeedConfig(stage=2, bucket_mb=4, offload_optimizer=True).deepspeed_json(8, 0.5)
    assert settings["gradient_accumulation_steps"] == 8
    assert settings["gradient_clipping"] == 0.5
    assert settings["managed_gradient_accumulation"] is False
    assert settings["zero_optimization"]["stage"] == 2
    assert settings["zero_optimization"]["reduce_bucket_size"] == 2**20
    assert settings["zero_optimization"]["offload_optimizer"] == {"device": "cpu"}
    assert DeepSpeedConfig(stage=1).deepspeed_json(1, None)["gradient_clipping"] == 0.0


def test_further_keys_are_passed_on() -> None:
    extra = {"comms_logger": {"enabled": True}, "zero_optimization": {"round_robin_gradients": True}}
    settings = DeepSpeedConfig(stage=2, extra=extra).deepspeed_json(1, None)
    assert settings["comms_logger"] == {"enabled": True}
    assert settings["zero_optimization"]["round_robin_gradients"] is True
    assert settings["zero_optimization"]["stage"] == 2


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("{kind: deepspeed, stage: 4}", "'strategy.stage': input should be 0, 1, 2 or 3, got 4"),
        ("{kind: deepspeed, stage: 0, offload_optimizer: true}", "offload_optimizer needs stage 1, 2 or 3"),
        ("{kind: deepspeed, stage: 2, gather: module}", "gather 'module' is for stage 3"),
        (
            "{kind: deepspeed, extra: {gradient_clipping: 1}}",
            "extra.gradient_clipping is set by optim.PLAYER.clip_norm",
        ),
        (
            "{G: {kind: ddp}, D: {kind: deepspeed, extra: {zero_optimization: {stage: 1}}}}",
            "'strategy.D': extra.zero_optimization.stage is set by stage",
        ),
        ("{kind: deepspeed, extra: {comms_loger: {}}}", "did you mean 'comms_logger'?"),
        ("{kind: deepspeed, extra: {zero_optimization: 3}}", "extra.zero_optimization must be a mapping"),
        ("{G: {kind: fsdp, shard_rank: 2}, D: {kind: ddp}}", "did you mean 'strategy.G.shard_ranks'?"),
        ("{G: {kind: fsdp}, D: {kind: dpp}}", "unknown strategy.D.kind 'dpp' (did you mean 'ddp'?)"),
        ("{bucket_mb: 3}", "missing key 'strategy.kind'"),
    ],
)
def test_a_mistake_is_told_with_its_key(strategy: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(strategy)


def test_players_may_have_strategies_of_their_own() -> None:
    chosen = load("{G: {kind: deepspeed, stage: 3}, D: {kind: fsdp, shard_ranks: 2}}")
    assert (chosen["G"].kind, chosen["G"].stage, chosen["D"].shard_ranks) == ("deepspeed", 3, 2)


@pytest.mark.parametrize("strategy", ["{G: {kind: fsdp}}", "{G: {kind: fsdp}, D: {kind: ddp}, E: {kind: ddp}}"])
def test_every_player_has_a_strategy_and_nobody_else(strategy: str) -> None:
    config = load_training(ROOT / "tests/tiny.yaml", [f"strategy={strategy}"])
    with pytest.raises(ConfigError, match="strategy: has .*, but this task has the players D, G: name a strategy for"):
        check_strategies(config.strategy, config.demands(), 2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["strategy={kind: deepspeed}", "precision=fp16"], "strategy: 'deepspeed' has no loss scaling here"),
        (["strategy={kind: deepspeed}", "precision=pure_bf16"], "precision 'bf16' (asked for by precision)"),
        (["strategy={G: {kind: ddp}, D: {kind: fsdp}}", "compile=true"], "strategy.D: 'fsdp' gathers weights in each"),
        (["strategy={kind: deepspeed}", "compile=true"], "use 'ddp' (asked for by compile)"),
    ],
)
def test_what_a_strategy_lacks_is_told_with_the_key_that_asks(overrides: list[str], message: str) -> None:
    config = load_training(ROOT / "tests/tiny.yaml", overrides)
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_strategies(config.strategy, config.requirements(), 2, here=False)


def test_deepspeed_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=re.escape("pip install bigtrain[deepspeed]")):
        DeepSpeedConfig().check_installed()

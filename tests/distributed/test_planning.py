"""What a plan says of messages and memory is what real ranks send and hold."""

from typing import Any

import pytest

from tests.distributed.planned import foretold, observed
from tests.distributed.ranks import on_ranks

SMALL = ["generator.width=8", "discriminator.width=8", "objective.terms.r1.interval=1", "precision=fp32"]
BATCH = ["global_batch=16", "micro_batch=4"]
CASES = {
    "ddp": [*SMALL, *BATCH, "strategy={kind: ddp, bucket_mb: 0.1}"],
    "fsdp": [*SMALL, *BATCH, "strategy={kind: fsdp}"],
    "zero-2": [*SMALL, *BATCH, "strategy={kind: deepspeed, stage: 2, bucket_mb: 1.0}"],
}


def _all_observed() -> dict[str, Any]:
    return {name: observed(case) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    first, second = on_ranks(2, _all_observed, tmp_path_factory.mktemp("planning"))
    assert {name: one["bytes"] for name, one in first.items()} == {name: one["bytes"] for name, one in second.items()}
    return first


@pytest.mark.parametrize("name", CASES)
def test_messages_and_memory_are_as_foretold(name: str, seen: dict[str, Any]) -> None:
    told = foretold(CASES[name], 2)
    assert (told["messages"], told["bytes"]) == (seen[name]["messages"], seen[name]["bytes"])
    assert told["peak"] == pytest.approx(seen[name]["peak"], rel=0.1)

"""One run on 2, 1, 4 and 2 ranks, and from DDP to FSDP2 and back: the same samples, draws and losses, in float64."""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from tests.faults.runs import Runs, curves, ended

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

Seen = dict[int, list[list[object]]]


def witnessed(run: Path) -> Seen:
    """Return what each step was made of, whichever rank it was on."""
    steps: Seen = defaultdict(list)
    for path in run.glob("witness-*.jsonl"):
        for line in path.read_text().splitlines():
            samples_seen, seen = json.loads(line)
            steps[samples_seen] += seen
    return {samples_seen: sorted(seen) for samples_seen, seen in sorted(steps.items())}


STYLEGAN = "{{kind: stylegan2, channel_base: 256, channel_max: 16{}}}"


@pytest.mark.parametrize("networks", ["biggan", "stylegan2"])
def test_ranks_and_strategies_change_in_one_run(runs: Runs, networks: str) -> None:
    every_step = runs.having(
        # Rounding is all that differs. With its usual epsilon Adam makes a full step of either sign out of a gradient
        # that is only rounding, and with larger rates the steps drift apart faster.
        *("optim.G.eps=1.0e-4", "optim.D.eps=1.0e-4", "optim.G.lr.value=2.0e-4", "optim.D.lr.value=2.0e-4"),
        *("log.interval_kimg=0.016", "data.flip=true"),
        "micro_batch=4",  # two a rank, on any number of ranks: spectral normalisation moves in each forward
    )
    if networks == "stylegan2":  # nothing of it moves in a forward: the batch may be cut into any pieces
        g, d = STYLEGAN.format(", z_dim: 16, w_dim: 16"), STYLEGAN.format(", mbstd_group: 4")
        every_step = every_step.having(f"generator={g}", f"discriminator={d}")
    witness = "tests.faults.witness"
    fixed = ended(every_step.start_with(witness, f"{networks}-fixed"), runs.root / f"{networks}-fixed")
    elastic = runs.root / f"{networks}-elastic"
    for nproc, strategy, kimg in ((2, "ddp", 0.16), (1, "ddp", 0.32), (4, "fsdp", 0.48), (2, "ddp", 0.64)):
        micro_batch = 4 if networks == "stylegan2" else 8 // nproc
        these = every_step.having(f"strategy.kind={strategy}", f"micro_batch={micro_batch}", nproc=nproc)
        process = these.start_with(witness, elastic.name, "allow_config_change=true", f"stop_at_kimg={kimg}")
        _, err = process.communicate()
        assert process.returncode == (3 if kimg < 0.64 else 0), err
    starts = [json.loads(line) for line in (elastic / "events.jsonl").read_text().splitlines()]
    assert [event["world_size"] for event in starts if "world_size" in event] == [2, 1, 4, 2]
    assert witnessed(elastic) == witnessed(fixed)
    ours, theirs = curves(elastic, "loss/"), curves(fixed, "loss/")
    assert ours.keys() == theirs.keys() == {"loss/d_main", "loss/g_main"}
    for name, points in ours.items():
        assert [kimg for kimg, _ in points] == [kimg for kimg, _ in theirs[name]]
        assert len(points) == 40
        for (kimg, one), (_, other) in zip(points, theirs[name], strict=True):
            assert one == pytest.approx(other, abs=1e-6), (name, kimg)

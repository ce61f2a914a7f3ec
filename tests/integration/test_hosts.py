"""A job on two hosts with addresses of their own, whose network is cut while they train."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.network import Network, network_of
from tests.integration.slurm_cluster import missing_programs, slurm_cluster
from tests.integration.test_slurm import Site, assert_same_end, said

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        bool(missing_programs()) or os.geteuid() != 0 or shutil.which("ip") is None,
        reason="needs Slurm, iproute2, and root for network namespaces",
    ),
]
KIMG = 8.0
LONG = [f"total_kimg={KIMG}", "watchdog.step_seconds=8", "watchdog.pause_seconds=12", "checkpoint.interval_kimg=0.8"]
WIDE = ["--nodes=2", "--ranks-per-node=1", "--partition=low"]


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with network_of(["n1", "n2"]) as joined:
        yield joined


@pytest.fixture(scope="module")
def site(network: Network, fashion: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("hosts")
    with slurm_cluster(root / "cluster", network=network) as cluster:
        yield Site(cluster, fashion, root)


@pytest.fixture(scope="module")
def straight(site: Site) -> Path:
    """A run on one host that nothing disturbed."""
    folder = site.root / "straight"
    site.bigtrain("train", *site.config, *LONG, f"run_dir={folder}", "--nproc=2")
    return folder


@pytest.mark.parametrize("launch", ["torchrun", "srun"])
def test_a_short_cut_costs_seconds(site: Site, network: Network, straight: Path, launch: str) -> None:
    run = site.root / f"short-{launch}"
    site.submit(run.name, *LONG, *WIDE, f"--launch={launch}")
    site.wait_until_it_trains(run, after=800)
    assert json.loads((run / "run.lock").read_text())["host"] in ("n1", "n2")
    network.cut("n2")
    time.sleep(5)
    network.mend("n2")
    assert said(site.wait_for_the_end(run))[-1] == "ended complete"
    assert_same_end(run, straight, kimg=KIMG)


def test_after_a_long_cut_the_lost_peer_is_named_and_the_run_goes_on(
    site: Site, network: Network, straight: Path
) -> None:
    run = site.root / "long"
    site.submit("long", *LONG, *WIDE)
    site.wait_until_it_trains(run, after=800)
    network.cut("n2")
    try:
        site.wait("a verdict", run, lambda: list(run.glob("hangs/*/verdict.txt")), seconds=120)
    finally:
        network.mend("n2")
    (verdict,) = run.glob("hangs/*/verdict.txt")
    assert "rank 1 (host n2" in verdict.read_text()
    assert "lost its connection" in verdict.read_text()
    book = site.wait_for_the_end(run)
    assert said(book)[-1] == "ended complete"
    assert sum(line["event"] == "started" for line in book) >= 2
    assert_same_end(run, straight, kimg=KIMG)

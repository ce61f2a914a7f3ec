"""Which cores a rank with a GPU keeps to, on machines that are made up."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bigtrain.distributed.affinity import cores_of, stay_near

GPU = torch.device("cuda", 1)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[frozenset[int]]:
    """A GPU at 0001:4b:00.0 of a node of 8 cores, of which the process was given 2 to 7; return what it keeps to."""
    kept: list[frozenset[int]] = []
    card = SimpleNamespace(pci_domain_id=1, pci_bus_id=0x4B, pci_device_id=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(2, 8)))
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, cores: kept.append(cores))
    (tmp_path / "0001:4b:00.0").mkdir()
    return kept


@pytest.mark.parametrize(
    ("near", "kept"), [("0-3", {2, 3}), ("4-7,12-15\n", {4, 5, 6, 7}), ("0-1", None), ("0-63", None), ("", None)]
)
def test_a_rank_keeps_to_the_cores_near_its_gpu_of_those_that_it_was_given(
    machine: list[frozenset[int]], tmp_path: Path, near: str, kept: set[int] | None
) -> None:
    (tmp_path / "0001:4b:00.0" / "local_cpulist").write_text(near)
    assert stay_near(GPU, tmp_path) == kept
    assert machine == ([] if kept is None else [kept])


def test_a_machine_that_does_not_tell_changes_nothing(machine: list[frozenset[int]], tmp_path: Path) -> None:
    assert stay_near(GPU, tmp_path) is None and machine == []


def test_the_kernels_lists_of_cores() -> None:
    assert cores_of("0-2,7,9-10\n") == {0, 1, 2, 7, 9, 10}

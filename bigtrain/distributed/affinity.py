"""Cores near a rank's GPU."""

import os
from pathlib import Path
from typing import Any

import torch

_DEVICES = Path("/sys/bus/pci/devices")


def stay_near(device: torch.device, devices: Path = _DEVICES) -> frozenset[int] | None:
    """Let this process, and threads that it starts from here on, run on the cores of its GPU's NUMA node alone.

    Memory and page-locked buffers of a process lie where it runs: from another node every copy to the GPU crosses the
    processor's own network. Cores that the process was not given stay forbidden; where none is left, or the machine
    does not tell, nothing changes.

    Args:
        device: a GPU.
        devices: the kernel's list of PCI devices.

    Returns:
        The cores; None where nothing changed.
    """
    card: Any = torch.cuda.get_device_properties(device)
    address = f"{card.pci_domain_id:04x}:{card.pci_bus_id:02x}:{card.pci_device_id:02x}.0"
    try:
        near = cores_of((devices / address / "local_cpulist").read_text())
        given = os.sched_getaffinity(0)
        chosen = frozenset(near & given)
        if not chosen or chosen == given:
            return None
        os.sched_setaffinity(0, chosen)
    except (OSError, ValueError, AttributeError):  # a container without /sys, another system than Linux
        return None
    return chosen


def cores_of(text: str) -> set[int]:
    """Read the kernel's way to write a set of cores: `0-3,8`."""
    cores: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cores.update(range(int(first), int(last or first) + 1))
    return cores

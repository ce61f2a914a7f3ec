"""What a machine is made of."""

import platform
from pathlib import Path
from typing import Any

import psutil
import torch


def describe_hardware() -> dict[str, Any]:
    """Return the processor's name, memory in GiB, and the GPUs' names."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": named[0] if named else platform.processor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
    }

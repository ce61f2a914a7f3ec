"""Which GPU a rank computes on, and why it cannot where there is one."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from bigtrain.core.errors import UserError


class DeviceError(UserError):
    """This rank cannot use a GPU that it should; other ranks may know nothing of it."""


def find_device(local_rank: int, environment: Mapping[str, str]) -> torch.device:
    """Return where a rank computes: the GPU of its number on the node, the only one that it sees, or the CPU.

    Args:
        local_rank: among the ranks of this node.
        environment: of the process; it tells whether GPUs were asked for. `DS_ACCELERATOR=cpu`, DeepSpeed's own way to
            ask for CPUs, goes first: DeepSpeed's launcher numbers devices in CUDA_VISIBLE_DEVICES even then.

    Raises:
        DeviceError: GPUs were asked for and cannot be used, or there are more ranks than GPUs.
    """
    if environment.get("DS_ACCELERATOR") == "cpu":
        return torch.device("cpu")
    problem = problem_with_cuda()
    if problem is not None:
        if asked := gpus_asked_for(environment):
            raise DeviceError(
                f"{asked} assigns a GPU to this rank, but PyTorch cannot use it: {problem}; to train on CPUs, set "
                "CUDA_VISIBLE_DEVICES= (empty)"
            )
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if local_rank < count:
        return torch.device("cuda", local_rank)
    own = environment.get("CUDA_VISIBLE_DEVICES", environment.get("SLURM_STEP_GPUS"))
    if count == 1 and own is not None:  # --gpus-per-task and --gpu-bind=single let each task see its own GPU alone
        return torch.device("cuda", 0)
    raise DeviceError(
        f"local rank {local_rank} has no GPU: {count} are visible; start as many ranks on a node as it has GPUs"
    )


def gpus_asked_for(environment: Mapping[str, str]) -> str | None:
    """Return what gives this process GPUs: a launcher's or user's variable, or the machine; None if nothing does."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return f"CUDA_VISIBLE_DEVICES={visible}" if visible not in ("", "-1", "NoDevFiles") else None
    for name in ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS"):
        if value := environment.get(name):
            return f"{name}={value}"
    drivers = sorted(Path("/dev").glob("nvidia[0-9]*")) if torch.version.cuda else []
    return str(drivers[0]) if drivers else None


def problem_with_cuda() -> str | None:
    """Return in one line why PyTorch cannot compute on the GPUs here; None if it can."""
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} was built without CUDA"
    try:
        torch.cuda.current_device()  # initialises CUDA, and says why it cannot
    except (RuntimeError, AssertionError) as error:
        return re.sub(r"\s+", " ", str(error)).strip().rstrip(".")
    if not torch.cuda.is_available():
        return "CUDA finds no GPU"
    major, minor = torch.cuda.get_device_capability(0)
    built_for = torch.cuda.get_arch_list()
    if not runs_on(major, minor, built_for):
        return (
            f"{torch.cuda.get_device_name(0)} has the compute capability {major}.{minor}, and PyTorch "
            f"{torch.__version__} was built for {', '.join(built_for)}"
        )
    return None


def runs_on(major: int, minor: int, built_for: Sequence[str]) -> bool:
    """Tell whether a build has code for a GPU: `sm_XY` runs on X.Y and later ones of X, `compute_XY` on all later.

    Args:
        major: of the GPU's compute capability.
        minor: likewise.
        built_for: as `torch.cuda.get_arch_list` gives it.
    """
    for one in built_for:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", one)
        if found is None:
            continue
        kind, of = found[1], (int(found[2]), int(found[3]))
        if of <= (major, minor) and (kind == "compute" or of[0] == major):
            return True
    return False

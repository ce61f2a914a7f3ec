"""What launchers leave in the environment of the processes that they start, and which of it is to be believed.

torchrun, accelerate, DeepSpeed and Kubernetes set `RANK`, `WORLD_SIZE` and `MASTER_*`; srun sets `SLURM_*`. All of
these are inherited by shells, notebooks and jobs for which they are not true any more.
"""

from collections.abc import Mapping, MutableMapping

from bigtrain.core.errors import UserError

COMMAND = "BIGTRAIN_COMMAND"
"""The variable that tells ranks the process of the command that has started their launcher."""
_FIRST_SPECIAL_STEP = 4294967290
"""Slurm's numbers from here on are no steps of srun: interactive shells, batch scripts, external and pending steps."""
_OF_A_RANK = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"),
    *("BIGTRAIN_LAUNCHER", "BIGTRAIN_CAUSE", "BIGTRAIN_COMMAND"),
)
_OPEN_MPI = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK")
_MPICH = ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID")
"""Rank, number of ranks and place on the node as mpirun tells them: Open MPI's, and that of MPICH and Intel MPI."""
_PREFIXES_OF_LAUNCHERS = (
    "ACCELERATE_",
    "TORCHELASTIC_",
    "PET_",
    "ROLE_",
    "OMPI_",
    "PMI_",
    "PMIX_",
    "PMI2_",
    "MPI_LOCAL",
)
_SLURMS_COMMANDS = ("SLURM_", "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SCANCEL_", "SCONTROL_")
_OF_THE_SITE = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_CLUSTERS", "SLURM_ROOT"})
"""Where Slurm is, and who the user is: true inside and outside of jobs."""
_OF_THE_USER = frozenset({"SBATCH_ACCOUNT", "SBATCH_PARTITION", "SBATCH_QOS", "SBATCH_RESERVATION", "SBATCH_CLUSTERS"})
"""What users set in their shell for all jobs, and what jobs do not set by themselves."""


class LauncherError(UserError):
    """The environment says that there are other ranks, but not where to meet them."""


def place_from_environment(environment: Mapping[str, str]) -> tuple[int, int, int]:
    """Return (rank, world_size, local_rank) from torchrun's or accelerate's variables, mpirun's, srun's, or (0, 1, 0).

    A Slurm shell that is no step of srun (an interactive one, a batch script's) is a process alone.
    """
    if environment.get("RANK") and environment.get("WORLD_SIZE"):
        return int(environment["RANK"]), int(environment["WORLD_SIZE"]), int(environment.get("LOCAL_RANK", "0"))
    if place := _place_by(_OPEN_MPI, environment):
        return place
    if environment.get("SLURM_PROCID") and _is_step_of_srun(environment.get("SLURM_STEP_ID", "")):
        tasks = environment.get("SLURM_NTASKS") or environment.get("SLURM_STEP_NUM_TASKS") or "1"
        return int(environment["SLURM_PROCID"]), int(tasks), int(environment.get("SLURM_LOCALID", "0"))
    return _place_by(_MPICH, environment) or (0, 1, 0)  # which srun may set too, without the place on the node


def node_from_environment(environment: Mapping[str, str]) -> int:
    """Return this node's number from torchrun's or srun's variables; 0 where there is one node."""
    return int(environment.get("GROUP_RANK") or environment.get("SLURM_NODEID") or 0)


def check_meeting_place(environment: Mapping[str, str]) -> None:
    """See that several ranks know where they meet.

    Raises:
        LauncherError: they do not, as in a shell that has kept the variables of a launcher.
    """
    rank, world_size, _ = place_from_environment(environment)
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]
    if world_size > 1 and missing:
        known = (("RANK", "WORLD_SIZE"), _OPEN_MPI[:2], ("SLURM_PROCID", "SLURM_NTASKS"), _MPICH[:2])
        names = next(one for one in known if environment.get(one[0]))
        raise LauncherError(
            f"{' and '.join(names)} say that this process is rank {rank} of {world_size}, but "
            f"{' and '.join(missing)} is not set: for a single process, unset {' '.join(names)}; for several ranks, "
            f"use torchrun or bigtrain submit"
        )


def forget_launchers(environment: MutableMapping[str, str]) -> None:
    """Remove what makes a process a rank of others, for a program that is always started alone."""
    for name in list(environment):
        if name in _OF_A_RANK or name.startswith(_PREFIXES_OF_LAUNCHERS):
            del environment[name]


def for_new_jobs(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for Slurm's commands, and for the jobs that inherit it, without that of an outer job."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(_SLURMS_COMMANDS) or name in _OF_THE_SITE | _OF_THE_USER
    }
    forget_launchers(kept)
    return kept


def _place_by(names: tuple[str, str, str], environment: Mapping[str, str]) -> tuple[int, int, int] | None:
    """Return the place that mpirun's variables tell; None where they are not set."""
    if not all(environment.get(name) for name in names[:2]):
        return None
    rank, size, local = (int(environment.get(name) or 0) for name in names)
    return rank, size, local


def _is_step_of_srun(number: str) -> bool:
    return number.isdecimal() and int(number) < _FIRST_SPECIAL_STEP

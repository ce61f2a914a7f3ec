import pytest
import torch

from bigtrain.core.launchers import LauncherError, forget_launchers, place_from_environment
from bigtrain.distributed.init import join_ranks, leave_ranks


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, (0, 1, 0)),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, (5, 8, 1)),
        ({"RANK": "5", "WORLD_SIZE": "8"}, (5, 8, 0)),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"}, (3, 4, 1)),
        ({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}, (3, 4, 1)),
        # mpirun starts its daemons by srun: a task a node, several ranks each
        (
            {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4"},
            (3, 4, 0),
        ),
        ({"PMI_RANK": "2", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1"}, (2, 4, 1)),
        # srun with PMI tells the rank twice, and the place on the node once
        (
            {"SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"}
            | {"PMI_RANK": "3", "PMI_SIZE": "4"},
            (3, 4, 1),
        ),
        # torchrun inside a Slurm step: one task a node, several ranks each
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "RANK": "5", "WORLD_SIZE": "8"}, (5, 8, 0)),
        # a batch script's own shell is no step
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (0, 1, 0)),
        # nor is an interactive one, which has a step of a special number
        ({"SLURM_STEP_ID": "4294967290", "SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"}, (0, 1, 0)),
        ({"SLURM_STEP_ID": "4294967290", "SLURM_PROCID": "0"}, (0, 1, 0)),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "0"}, (0, 1, 0)),
        ({"RANK": "", "WORLD_SIZE": ""}, (0, 1, 0)),
    ],
)
def test_every_launcher_is_understood(environment: dict[str, str], place: tuple[int, int, int]) -> None:
    assert place_from_environment(environment) == place


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "0", "WORLD_SIZE": "4"},
        {"SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"},
        {"PMI_RANK": "0", "PMI_SIZE": "4"},
    ],
)
def test_left_over_variables_are_told(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        LauncherError, match=r"rank 0 of 4, but MASTER_ADDR and MASTER_PORT .*unset (RANK|SLURM_PROCID|PMI_RANK)"
    ):
        join_ranks()


def test_a_command_is_nobodys_rank() -> None:
    left = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "n1", "MASTER_PORT": "1", "PET_NNODES": "2", "PMI_RANK": "1"}
    left |= {"SLURM_PROCID": "1", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "TORCHELASTIC_RUN_ID": "x"}
    forget_launchers(left)
    assert place_from_environment(left) == (0, 1, 0)
    assert left == {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "4"}


def test_one_rank_meets_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "9"}.items():
        monkeypatch.setenv(name, value)  # an address that never answers
    assert join_ranks().world_size == 1
    leave_ranks()


def test_ranks_take_denormal_numbers_for_zero() -> None:
    tiny = torch.full((4096,), 1e-30)
    smallest = [float((tiny * 1e-10).max())]
    join_ranks()
    try:
        smallest.append(float((tiny * 1e-10).max()))
    finally:
        leave_ranks()
    smallest.append(float((tiny * 1e-10).max()))
    assert [value > 0 for value in smallest] == [True, False, True]

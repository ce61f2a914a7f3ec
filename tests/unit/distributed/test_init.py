import pytest
import torch

from bigtrain.distributed.init import join_ranks, leave_ranks, place_from_environment


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, (0, 1, 0)),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, (5, 8, 1)),
        ({"RANK": "5", "WORLD_SIZE": "8"}, (5, 8, 0)),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"}, (3, 4, 1)),
        # torchrun inside a Slurm step: one task a node, several ranks each
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "RANK": "5", "WORLD_SIZE": "8"}, (5, 8, 0)),
        # a batch script's own shell is no step
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (0, 1, 0)),
    ],
)
def test_every_launcher_is_understood(environment: dict[str, str], place: tuple[int, int, int]) -> None:
    assert place_from_environment(environment) == place


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

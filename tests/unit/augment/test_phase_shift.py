"""Phase shift: whole samples, by position, with reflected edges, differentiable twice."""

import torch

from bigtrain.augment.phase_shift import PhaseShift, PhaseShiftConfig
from bigtrain.core.rng import Draws


def test_sounds_are_shifted_and_reflected_at_their_edges() -> None:
    sound = torch.arange(32.0).repeat(64, 1, 1)
    draws = Draws(0, torch.arange(64))
    made = PhaseShift(3)(sound, draws, 1.0)
    shifts = {int(row[0, 15]) - 15 for row in made}
    assert shifts == set(range(-3, 4))
    for row in made[:, 0]:
        shift = int(row[15]) - 15
        expected = [abs(place + shift) for place in range(32)]
        assert row.tolist() == [31 - abs(31 - place) for place in expected]
    assert torch.equal(PhaseShift(3)(sound[7:9], draws[7:9], 1.0), made[7:9])
    assert torch.equal(PhaseShift(3)(sound, draws, 0.0), sound)


def test_it_has_second_derivatives() -> None:
    sound = torch.randn(2, 1, 8, dtype=torch.float64, requires_grad=True)
    shift = PhaseShiftConfig(kind="phase_shift", samples=2).build()
    assert torch.autograd.gradgradcheck(lambda x: shift(x, Draws(0, torch.arange(2)), 1.0).square(), sound)

import pytest
import torch
from torch import nn

from bigtrain.core.rng import Draws
from bigtrain.objectives.perturbations import flip_and_shift
from bigtrain.objectives.regularizers import (
    change_under_noise,
    feature_distance,
    lecam_penalty,
    off_orthogonal,
    path_lengths,
    r1_penalty,
    r2_penalty,
    slope_to_one,
    squared_slope_by_differences,
)


def test_the_slope_of_a_linear_discriminator_is_its_weight() -> None:
    weight = torch.randn(3, 4, 4)
    image = torch.randn(5, 3, 4, 4, requires_grad=True)
    logits = (image * weight).sum((1, 2, 3))
    squared = weight.square().sum()
    torch.testing.assert_close(r1_penalty(logits, image), squared.expand(5))
    torch.testing.assert_close(r2_penalty(logits, image), squared.expand(5))
    torch.testing.assert_close(slope_to_one(logits, image), (squared.sqrt() - 1).square().expand(5))


def test_differences_along_the_slope_have_the_gradient_of_r1() -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.Softplus(), nn.Linear(6, 1)).double()
    weight, image = network[1].weight, torch.randn(4, 2, 2, 2, dtype=torch.float64, requires_grad=True)

    def logits_of(images: torch.Tensor) -> torch.Tensor:
        return network(images).squeeze(1)

    exact = r1_penalty(logits_of(image), image).mean()
    (expected,) = torch.autograd.grad(exact, weight)
    errors = []
    for h in (0.4, 0.2):
        value = squared_slope_by_differences(logits_of, logits_of(image), image, h)
        (gradient,) = torch.autograd.grad(value, weight)
        assert value.item() == pytest.approx(exact.item(), rel=1e-6)
        errors.append(float((gradient - expected).norm() / expected.norm()))
    assert errors[1] < 1e-2
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)  # of order h²


def test_the_change_under_noise_is_on_average_the_squared_slope() -> None:
    torch.manual_seed(0)
    weight = torch.randn(3, 4, 4)
    image = torch.randn(1, 3, 4, 4).expand(4000, 3, 4, 4)

    def logits_of(images: torch.Tensor) -> torch.Tensor:
        return (images * weight).sum((1, 2, 3))

    change = change_under_noise(logits_of, logits_of(image), image, torch.randn(image.shape), 0.1)
    assert change.shape == (4000,)
    # Squares of normal numbers: their mean strays by sqrt(2 / 4000), 2 %.
    assert change.mean().item() == pytest.approx(weight.square().sum().item(), rel=0.1)


@pytest.mark.parametrize("penalty", [r1_penalty, slope_to_one])
def test_a_penalty_moves_the_weights_as_finite_differences_say(penalty) -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.Softplus(), nn.Linear(6, 1)).double()
    image = torch.randn(4, 2, 2, 2, dtype=torch.float64)

    def value() -> torch.Tensor:
        leaf = image.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(leaf).sum(), leaf, create_graph=True)
        norm = gradient.square().sum((1, 2, 3))
        return (norm if penalty is r1_penalty else (norm.sqrt() - 1).square()).mean()

    weight = network[1].weight
    leaf = image.clone().requires_grad_()
    penalty(network(leaf).squeeze(1), leaf).mean().backward()
    for row, column in [(0, 0), (3, 5), (5, 7)]:
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[row, column] += sign * 1e-5
            values.append(value().item())
            with torch.no_grad():
                weight[row, column] -= sign * 1e-5
        assert weight.grad[row, column].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-3)


def test_the_path_of_a_linear_generator_is_the_norm_of_its_jacobian_times_noise() -> None:
    matrix = torch.randn(6, 1 * 4 * 4)
    styles = torch.randn(3, 2, 3, requires_grad=True)
    image = (styles.flatten(1) @ matrix).reshape(3, 1, 4, 4)
    noise = torch.randn(3, 1, 4, 4)
    pulled = (noise.flatten(1) / 4) @ matrix.t()  # sqrt(4 * 4) = 4
    expected = pulled.reshape(3, 2, 3).square().sum(2).mean(1).sqrt()
    torch.testing.assert_close(path_lengths(image, styles, noise), expected)


def test_lecam_measures_to_the_other_sides_average() -> None:
    found = lecam_penalty(torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 1.0]), torch.tensor(3.0), torch.tensor(-2.0))
    torch.testing.assert_close(found, torch.tensor([16.0 + 16.0, 4.0 + 4.0]))


def test_orthogonal_rows_cost_nothing_and_equal_rows_their_overlap() -> None:
    assert off_orthogonal(5 * torch.eye(4).reshape(4, 2, 2)).item() == 0
    assert off_orthogonal(torch.ones(2, 3)).item() == pytest.approx(2 * 9)


def test_features_match_when_their_means_do() -> None:
    real = torch.randn(6, 5)
    assert feature_distance(real, real.flip(0)).item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(feature_distance(real, real + 2), torch.tensor(4.0))


def test_flips_and_shifts_are_whole_pixels_of_the_image() -> None:
    image = torch.arange(64.0).reshape(1, 1, 8, 8).expand(200, 1, 8, 8)
    moved = flip_and_shift(image, Draws(0, torch.arange(200)), reach=2)
    rows, columns = (moved[:, 0] // 8).long(), (moved[:, 0] % 8).long()
    down = rows[:, 4, 4] - 4
    assert sorted(set(down.tolist())) == [-2, -1, 0, 1, 2]
    mirrored = columns[:, 4, 4] > columns[:, 4, 5]
    assert 60 < mirrored.sum() < 140
    direction = torch.where(mirrored, -1, 1)
    assert torch.equal(columns[:, 4, 5], columns[:, 4, 4] + direction)
    assert columns[:, 4, 4][~mirrored].sub(4).abs().max() == 2
    assert torch.equal(flip_and_shift(image, Draws(0, torch.arange(200)), reach=2), moved)

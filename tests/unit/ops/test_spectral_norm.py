import torch
from torch.autograd import gradcheck, gradgradcheck

from bigtrain.ops.spectral_norm import spectral_norm, stored_spectral_norm


def test_converges_to_the_largest_singular_value() -> None:
    weight, u = torch.randn(6, 3, 3, 3), torch.randn(1, 6)
    for _ in range(200):
        normalised, sigma = spectral_norm(weight, u, update=True)
    top = torch.linalg.matrix_norm(weight.flatten(1), ord=2)
    torch.testing.assert_close(sigma, top, rtol=1e-4, atol=0)
    torch.testing.assert_close(torch.linalg.matrix_norm(normalised.flatten(1), ord=2), torch.tensor(1.0))


def test_only_training_moves_the_vector_and_bf16_stays_outside() -> None:
    weight, u = torch.randn(4, 5), torch.randn(1, 4)
    before = u.clone()
    with torch.autocast("cpu", torch.bfloat16):
        normalised, _ = spectral_norm(weight, u, update=False)
    assert torch.equal(u, before)
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised, spectral_norm(weight, u, update=False)[0])


def test_gradient() -> None:
    weight, u = torch.randn(3, 4, requires_grad=True), torch.randn(1, 3)
    for _ in range(300):
        spectral_norm(weight, u, update=True)
    (ours,) = torch.autograd.grad(spectral_norm(weight, u, update=False)[0].square().sum(), weight)
    exact = weight / torch.linalg.matrix_norm(weight, ord=2)
    (theirs,) = torch.autograd.grad(exact.square().sum(), weight)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_several_iterations_are_as_many_single_ones() -> None:
    weight, u = torch.randn(4, 5), torch.randn(1, 4)
    again = u.clone()
    spectral_norm(weight, u, update=True, iterations=3)
    for _ in range(3):
        spectral_norm(weight, again, update=True)
    assert torch.equal(u, again)


def test_derivative_once_the_vectors_have_converged() -> None:
    weight = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    u = torch.linalg.svd(weight.detach()).U[:, 0]
    assert gradcheck(lambda w: spectral_norm(w, u[None], update=False)[0], [weight])


def test_kept_vectors_are_constants() -> None:
    weight = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    u, v = torch.randn(3, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    before = u.clone(), v.clone()
    assert gradcheck(lambda w: stored_spectral_norm(w, u, v, update=False), [weight])
    assert gradgradcheck(lambda w: stored_spectral_norm(w, u, v, update=False), [weight])
    assert torch.equal(u, before[0])
    assert torch.equal(v, before[1])


def test_kept_vectors_are_pytorchs_own() -> None:
    layer = torch.nn.utils.spectral_norm(torch.nn.Conv2d(3, 4, 3))
    weight = layer.weight_orig.detach()
    u, v = layer.weight_u.clone(), layer.weight_v.clone()
    layer(torch.randn(1, 3, 5, 5))
    torch.testing.assert_close(stored_spectral_norm(weight, u, v, update=True), layer.weight.detach())
    torch.testing.assert_close(u, layer.weight_u)
    torch.testing.assert_close(v, layer.weight_v)

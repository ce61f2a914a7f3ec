import torch

from bigtrain.ops.spectral_norm import spectral_norm


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

"""Label maps become channels, SPADE paints them, and patches are judged at several scales."""

import pytest
import torch
from torch import nn

from bigtrain.core.errors import InputError
from bigtrain.models import ImageSpec
from bigtrain.models.initialise import initialise
from bigtrain.models.label_map import LabelMapDiscriminatorConfig, LabelMapTranslatorConfig, one_hot
from bigtrain.models.layers.spectral import SpectralConv2d
from bigtrain.models.multi_scale_patch import MultiScalePatchDiscriminatorConfig
from bigtrain.models.patch import PatchDiscriminatorConfig
from bigtrain.models.spade import SPADE, SPADEConfig
from tests.float64 import float64

MAP, IMAGE = ImageSpec(16, 1, width=32), ImageSpec(16, 3, width=32)
LABELS = 4
GENERATOR = LabelMapTranslatorConfig(labels=LABELS, base=SPADEConfig(width=2, doublings=2, hidden=4))
DISCRIMINATOR = LabelMapDiscriminatorConfig(
    labels=LABELS,
    base=MultiScalePatchDiscriminatorConfig(base=PatchDiscriminatorConfig(width=4, layers=1, norm="instance")),
)


def label_maps() -> torch.Tensor:
    labels = torch.randint(LABELS, (4, 1, 16, 32), generator=torch.Generator().manual_seed(0))
    return labels.float() / 127.5 - 1


def test_labels_are_channels_and_others_are_none() -> None:
    labels = torch.tensor([0, 3, 1, 255]).reshape(1, 1, 1, 4)
    found = one_hot(labels / 127.5 - 1, LABELS)[0, :, 0]
    assert found.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(one_hot(labels / 127.5 - 1, LABELS)[0, :, 0], found)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_spade_paints_maps_of_any_size(norm) -> None:
    config = GENERATOR.model_copy(update={"base": GENERATOR.base.model_copy(update={"norm": norm})})
    torch.manual_seed(0)
    network = config.build(MAP, IMAGE)
    initialise(network)
    maps = label_maps()
    image = network(maps)
    assert (image.shape, image.dtype) == ((4, 3, 16, 32), torch.float32)
    image.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    network.eval()
    assert network(maps.repeat(1, 1, 1, 2)).shape == (4, 3, 16, 64)
    assert not torch.equal(network(maps), network(maps.flip(0)))
    with pytest.raises(ValueError, match="spade: 18x32 pixels: height and width must be multiples of 4"):
        network(maps.repeat(1, 1, 2, 1)[:, :, :18])


def test_spade_scales_and_shifts_what_is_normalised_by_the_map() -> None:
    torch.manual_seed(0)
    layer = SPADE(6, LABELS, SPADEConfig(hidden=4, norm="instance"))
    x, maps = torch.randn(2, 6, 8, 8), one_hot(label_maps()[:2, :, :8, :8], LABELS)
    read = torch.relu(layer.shared(maps))
    expected = layer.norm(x) * (1 + layer.gain(read)) + layer.bias(read)
    torch.testing.assert_close(layer(x, maps), expected)
    flat = torch.full_like(x, 3.0)  # what normalisation alone would wash away
    assert not torch.equal(layer(flat, maps), layer(flat, maps.flip(0)))


def test_each_scale_judges_by_itself() -> None:
    torch.manual_seed(0)
    network = DISCRIMINATOR.build(IMAGE, MAP)
    initialise(network)
    network.eval()
    image, maps = torch.randn(4, 3, 16, 32), label_maps()
    logits = network(image, maps)
    fine, coarse = network.base.scales
    beside = one_hot(maps, LABELS)
    small = [torch.nn.functional.avg_pool2d(one, 2) for one in (image, beside)]
    expected = [fine(image, beside).flatten(1), coarse(*small).flatten(1)]
    assert network.opinions == network.base.opinions == tuple(part.shape[1] for part in expected)
    torch.testing.assert_close(logits, torch.cat(expected, 1))
    assert len(network.features(image, maps)) == 2 * 2 + 1
    assert len(network.stages()) == 4


def test_derivatives_are_those_of_finite_differences() -> None:
    """There are no golden vectors of SPADE."""
    with float64():
        torch.manual_seed(0)
        networks = (GENERATOR.build(MAP, IMAGE), DISCRIMINATOR.build(IMAGE, MAP))
        for network in networks:
            initialise(network)
            network.eval()
            for layer in network.modules():
                if isinstance(layer, SpectralConv2d) and layer.style.spectral:  # whose singular vectors are constants
                    layer.u0.copy_(torch.linalg.svd(layer.weight.detach().flatten(1)).U[:, :1].T)
        G, D = networks
        maps = label_maps()[:1].double()
        parameters = [*G.parameters(), *D.parameters()]
        directions = [torch.randn_like(one) for one in parameters]

        def loss() -> torch.Tensor:
            return sum((one.square().mean() for one in D.features(G(maps), maps)), torch.zeros(()))

        def loss_at(step: float) -> float:
            with torch.no_grad():
                torch._foreach_add_(parameters, directions, alpha=step)
                found = float(loss())
                torch._foreach_sub_(parameters, directions, alpha=step)
            return found

        gradients = torch.autograd.grad(loss(), parameters)
        slope = sum(float((one * other).sum()) for one, other in zip(gradients, directions, strict=True))
        assert slope == pytest.approx((loss_at(1e-6) - loss_at(-1e-6)) / 2e-6, rel=1e-6)


def test_each_label_learns_its_colour() -> None:
    torch.manual_seed(0)
    network = GENERATOR.build(MAP, IMAGE)
    initialise(network)
    maps, colours = label_maps(), torch.rand(3, LABELS) * 2 - 1
    target = torch.einsum("cl,nlhw->nchw", colours, one_hot(maps, LABELS))
    optimizer = torch.optim.Adam(network.parameters(), 0.02, betas=(0.0, 0.999))
    losses = []
    for _ in range(40):
        loss = nn.functional.mse_loss(network(maps), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3, losses


def test_discriminators_learn_which_images_go_with_a_map() -> None:
    torch.manual_seed(0)
    network = DISCRIMINATOR.build(IMAGE, MAP)
    initialise(network)
    maps = label_maps()
    image = one_hot(maps, LABELS)[:, :3] * 2 - 1
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    margins = []
    for _ in range(30):
        right, wrong = network(image, maps).mean(), network(image, maps.roll(1, 0)).mean()
        optimizer.zero_grad()
        (wrong - right).backward()
        optimizer.step()
        margins.append((right - wrong).item())
    assert margins[-1] > margins[0] + 0.1, margins


def test_other_labels_are_refused_where_the_network_is_applied() -> None:
    network = GENERATOR.build(MAP, IMAGE).eval()
    maps = label_maps()
    maps[0, 0, 3, 3] = 255 / 127.5 - 1  # has no label
    network(maps)
    maps[0, 0, 3, 3] = 4 / 127.5 - 1
    with pytest.raises(InputError, match="has the label 4, but generator.labels is 4: labels are 0 to 3, or 255"):
        network(maps)
    network.train()
    network(maps)  # training steps do not wait for the device


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: GENERATOR.build(IMAGE, IMAGE), "label maps have one channel, but the field has 3"),
        (lambda: DISCRIMINATOR.build(IMAGE, None), "set conditional: true"),
        (lambda: DISCRIMINATOR.base.build(ImageSpec(9, 3), None), "9 pixels cannot be halved 1 times"),
        (lambda: GENERATOR.build(ImageSpec(18, 1), ImageSpec(18, 3)), "multiples of 4"),
    ],
)
def test_what_does_not_fit_is_refused(build, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build()

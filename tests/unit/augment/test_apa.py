import pytest
import torch

from bigtrain.augment import NoAugmentConfig
from bigtrain.augment.apa import ApaConfig
from bigtrain.core.rng import Draws


def test_presents_a_share_of_fakes_as_real_without_a_gradient() -> None:
    real, fake = torch.zeros(4000, 1, 2, 2), torch.ones(4000, 1, 2, 2, requires_grad=True)
    augment = ApaConfig(kind="apa").build()
    presented = augment.present(real, fake, Draws(0, torch.arange(4000), "apa"), torch.tensor(0.3))
    assert presented.mean().item() == pytest.approx(0.3, abs=0.03)
    assert not presented.requires_grad
    assert augment(real, Draws(0, torch.arange(4000)), 1.0) is real


def test_without_augmentation_nothing_happens() -> None:
    real, fake = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    config = NoAugmentConfig()
    augment = config.build()
    assert augment(real, Draws(0, torch.arange(2)), 1.0) is real
    assert augment.present(real, fake, Draws(0, torch.arange(2)), 1.0) is real
    assert config.probability.build(torch.device("cpu")).p == 0

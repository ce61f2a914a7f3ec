"""Networks are laid out as channels_last, also where a weight's strides fit both layouts."""

import torch
from torch import nn

from bigtrain.models.initialise import lay_out


def test_weights_of_volumes_are_laid_out_too() -> None:
    network = lay_out(nn.Conv3d(1, 4, 3))
    assert network.weight.stride() == (27, 1, 9, 3, 1)
    assert network(torch.zeros(2, 1, 8, 8, 8)).is_contiguous(memory_format=torch.channels_last_3d)


def test_weights_of_one_channel_say_their_layout() -> None:
    layers = [nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 3)]
    network = lay_out(nn.Sequential(*layers))
    strides = [parameter.stride() for parameter in network.parameters() if parameter.ndim == 4]
    assert strides == [(9, 1, 3, 1), (4, 1, 4, 4), (36, 1, 12, 4)]
    made = network[0](torch.zeros(2, 1, 8, 8))
    assert made.is_contiguous(memory_format=torch.channels_last)
    assert not made.is_contiguous()

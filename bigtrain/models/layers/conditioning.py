"""Class labels as network inputs."""

import torch.nn.functional as F
from torch import Tensor


def class_weights(label: Tensor, classes: int) -> Tensor:
    """Return float32 weights of shape [N, classes]: one-hot for indices [N], unchanged for weights [N, classes]."""
    if label.is_floating_point():
        return label
    return F.one_hot(label, classes).float()

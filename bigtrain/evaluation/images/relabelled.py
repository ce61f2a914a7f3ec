"""Images whose classes have other numbers than where they come from."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bigtrain.evaluation.images import Images


class Relabelled:
    """Images with the class indices of another set that has the same classes; see Images.

    Args:
        images: any.
        order: the other set's index of each class.
        classes: names of the classes there.
    """

    def __init__(self, images: Images, order: Sequence[int], classes: Sequence[str]) -> None:
        self._images, self._order = images, torch.tensor([*order, -1])  # at -1, the last: no class
        self.name, self.classes = images.name, tuple(classes)

    def __len__(self) -> int:
        """See Images."""
        return len(self._images)

    @property
    def faults(self) -> list[str]:
        """See Images."""
        return self._images.faults

    @property
    def digest(self) -> str | None:
        """See Images."""
        before = self._images.digest
        return None if before is None else f"{before} as {self._order.tolist()}"

    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """See Images."""
        image, label = self._images.read(index)
        return image, self._order.to(label.device)[label]

"""Images by number, wherever they come from: what is scored, and what it is compared with."""

from typing import Protocol

from torch import Tensor


class Images(Protocol):
    """A set of images whose members depend on their number alone.

    Attributes:
        name: for messages.
        classes: names of the classes, in the order of their indices; empty where they are not known.
    """

    name: str
    classes: tuple[str, ...]

    @property
    def faults(self) -> list[str]:
        """Images that this rank could not read, or that are none, and why; their features count for nothing."""
        ...

    @property
    def digest(self) -> str | None:
        """What changes with the images; None for images that exist nowhere, and whose statistics are not kept."""
        ...

    def __len__(self) -> int:
        """Count the images."""
        ...

    def read(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and their classes.

        Args:
            index: their numbers, int64 on the CPU, shape [N].

        Returns:
            uint8, shape [N, C, H, W], or another kind of field as it is stored; and class indices, int64, shape [N] (-1
            for none).
        """
        ...

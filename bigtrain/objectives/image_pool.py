"""A history of generated images for D (Shrivastava et al. 2017, section 2.3; Zhu et al. 2017, section 4)."""

import torch
from torch import Tensor

from bigtrain.core.state import State


class ImagePool:
    """Keeps generated images and returns some of them in place of new ones.

    An image is stored and returned while the pool is not full. Then, image by image, with probability 1/2 a stored
    image is returned and the new one takes its place; else the new image is returned and not stored.

    The pool draws nothing itself and knows nothing of ranks: equal images with equal numbers in the same order give
    equal pools. On a GPU it never waits for the device.

    Args:
        capacity: how many images it keeps; 0 returns every image as it is.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._images: Tensor | None = None
        self._stored = 0

    def exchange(self, images: Tensor, uniform: Tensor, index: Tensor) -> Tensor:
        """Return each image, or a stored one in its place.

        Args:
            images: detached, shape [N, ...], always the same but for N, in the order of their positions in the run.
            uniform: uniform in [0, 1), shape [N]; image i is exchanged if the pool is full and uniform[i] > 0.5.
            index: uniform in [0, capacity), int64, shape [N]: the place of the stored image.

        Returns:
            The same shape, in memory of its own.
        """
        if self.capacity == 0:
            return images.clone()
        if self._images is None:
            self._images = torch.zeros(self.capacity, *images.shape[1:], dtype=images.dtype, device=images.device)
        stored = self._images = self._images.to(images)
        returned = images.clone()
        filling = min(self.capacity - self._stored, len(images))
        stored[self._stored : self._stored + filling] = images[:filling]
        self._stored += filling
        for row in range(filling, len(images)):  # one after the other: an image may leave just after it was stored
            new, place = images[row : row + 1], index[row : row + 1]
            old = stored.index_select(0, place)
            swap = uniform[row] > 0.5
            returned[row : row + 1] = torch.where(swap, old, new)
            stored.index_copy_(0, place, torch.where(swap, new, old))
        return returned

    def state_dict(self) -> State:
        """Return the stored images, shape [stored, ...]; None before the first."""
        return {"images": None if self._images is None else self._images[: self._stored].clone()}

    def load_state_dict(self, state: State) -> None:
        """Go on from `state`; of more images than the capacity, those at the first places stay."""
        images: Tensor | None = state["images"]
        self._images, self._stored = None, 0
        if images is not None and self.capacity:
            kept = images[: self.capacity]
            self._images = torch.zeros(self.capacity, *images.shape[1:], dtype=images.dtype, device=images.device)
            self._images[: len(kept)] = kept
            self._stored = len(kept)

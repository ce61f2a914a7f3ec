"""Histories of generated images on any number of ranks (Shrivastava et al. 2017, section 2.3)."""

import torch
from torch import Tensor

from bigtrain.core.rng import Draws
from bigtrain.core.state import State
from bigtrain.distributed.collectives import from_all_ranks


class ImagePools:
    """A history of generated images that is the same on any number of ranks.

    Sample i of a global batch exchanges images with the samples i of other batches, wherever they were computed: each
    place in the batch has a pool of its own (`objectives.image_pool.ImagePool`), and together they hold as many images
    as one pool would. With a batch of one it is the published pool. All places are computed at once, and a GPU is
    never waited for.

    Args:
        capacity: images of all pools together, at least; 0 for no history.
        batch: places in a global batch.
    """

    def __init__(self, capacity: int, batch: int) -> None:
        self._each, self._batch = -(-capacity // batch), batch
        self._images: Tensor | None = None  # of every place, [batch * each, C, H, W]
        self._stored: Tensor | None = None  # how many a place holds, int64, [batch]
        self._own: Tensor | None = None  # whether this rank computes a place; others' are as they were loaded

    def exchange(self, images: Tensor, draws: Draws) -> Tensor:
        """Return each image, or an older one in its place.

        Args:
            images: detached, shape [N, C, H, W], of different places in one global batch.
            draws: one an image.

        Returns:
            The same shape, in memory of its own.
        """
        if not self._each:
            return images
        kept, stored, own = self._on(images)
        uniform, index = draws.of("swap").uniform(1)[:, 0], draws.of("place").integers(self._each, 1)[:, 0]
        place = draws.index % self._batch
        count = stored[place]
        filling = count < self._each
        row = place * self._each + torch.where(filling, count, index)
        swap = (~filling & (uniform > 0.5))[:, None, None, None]
        old = kept.index_select(0, row)
        kept.index_copy_(0, row, torch.where(swap | filling[:, None, None, None], images, old))
        stored.index_add_(0, place, filling.long())
        own.index_fill_(0, place, True)
        return torch.where(swap, old, images)

    def _on(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the state, with the dtype and on the device of `images`; empty before the first."""
        if self._images is None or self._stored is None or self._own is None:
            self._images = images.new_zeros(self._batch * self._each, *images.shape[1:])
            self._stored = torch.zeros(self._batch, dtype=torch.int64, device=images.device)
            self._own = torch.zeros(self._batch, dtype=torch.bool, device=images.device)
        self._images = self._images.to(images)
        self._stored, self._own = self._stored.to(images.device), self._own.to(images.device)
        return self._images, self._stored, self._own

    def state_dict(self) -> State:
        """See Stateful: the pools of all ranks, by their place in the batch."""
        found, own = {}, set()
        if self._images is not None and self._stored is not None and self._own is not None:
            pools = self._images.cpu().reshape(self._batch, self._each, *self._images.shape[1:])
            counts = self._stored.tolist()
            found = {place: {"images": pools[place, :count].clone()} for place, count in enumerate(counts) if count}
            own = {place for place, mine in enumerate(self._own.tolist()) if mine}
        latest = found | {
            place: state for rank in from_all_ranks({one: found[one] for one in own}) for place, state in rank.items()
        }
        return {str(place): latest[place] for place in sorted(latest)}

    def load_state_dict(self, state: State) -> None:
        """See Stateful: every rank takes all pools, for it may get other places than before."""
        self._images = self._stored = self._own = None
        for place, one in state.items():
            images: Tensor = one["images"][: self._each]
            kept, stored, _ = self._on(images)
            kept[int(place) * self._each :][: len(images)] = images
            stored[int(place)] = len(images)

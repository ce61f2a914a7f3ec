"""Histories of generated images on any number of ranks (Shrivastava et al. 2017, section 2.3)."""

import torch
from torch import Tensor

from bigtrain.core.rng import Draws
from bigtrain.core.state import State
from bigtrain.distributed.collectives import from_all_ranks
from bigtrain.objectives.image_pool import ImagePool


class ImagePools:
    """A history of generated images that is the same on any number of ranks.

    Sample i of a global batch exchanges images with the samples i of other batches, wherever they were computed: each
    place in the batch has a pool of its own, and together they hold as many images as one pool would. With a batch of
    one it is the published pool.

    Args:
        capacity: images of all pools together, at least; 0 for no history.
        batch: places in a global batch.
    """

    def __init__(self, capacity: int, batch: int) -> None:
        self._each, self._batch = -(-capacity // batch), batch
        self._pools: dict[int, ImagePool] = {}
        self._own: set[int] = set()  # the places that this rank computes; others' pools are as they were loaded

    def exchange(self, images: Tensor, draws: Draws) -> Tensor:
        """Return each image, or an older one in its place.

        Args:
            images: detached, shape [N, C, H, W].
            draws: one an image.
        """
        if not self._each:
            return images
        uniform, index = draws.of("swap").uniform(1)[:, 0], draws.of("place").integers(self._each, 1)[:, 0]
        returned = []
        for row, place in enumerate((draws.index % self._batch).tolist()):
            pool = self._pools.setdefault(place, ImagePool(self._each))
            self._own.add(place)
            one = slice(row, row + 1)
            returned.append(pool.exchange(images[one], uniform[one], index[one]))
        return torch.cat(returned)

    def state_dict(self) -> State:
        """See Stateful: the pools of all ranks, by their place in the batch."""
        found = {place: _on_host(pool.state_dict()) for place, pool in self._pools.items()}
        own = from_all_ranks({place: found[place] for place in self._own})
        latest = found | {place: state for rank in own for place, state in rank.items()}
        return {str(place): latest[place] for place in sorted(latest)}

    def load_state_dict(self, state: State) -> None:
        """See Stateful: every rank takes all pools, for it may get other places than before."""
        self._pools, self._own = {}, set()
        for place, one in state.items():
            self._pools[int(place)] = pool = ImagePool(self._each)
            pool.load_state_dict(one)


def _on_host(state: State) -> State:
    return {name: None if images is None else images.cpu() for name, images in state.items()}

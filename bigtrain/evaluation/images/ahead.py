"""Read the next batch while the extractor works on this one."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from torch import Tensor

from bigtrain.evaluation.images import Images


def read_ahead(images: Images, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate over `images.read` of each batch of numbers.

    Images that exist are read one batch ahead, in a thread. Generated ones are not: they take what the extractor
    computes with.
    """
    if images.digest is None:
        yield from map(images.read, batches)
        return
    with ThreadPoolExecutor(1) as reader:
        waiting = None
        for index in batches:
            following = reader.submit(images.read, index)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()

"""A network on all cores of a CPU: each core takes a few images, rather than all of them a piece of every image.

So no core waits for another after every layer, and what a layer leaves for the next is still in the core's cache. The
parts are the same however many cores there are, and so are the features.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor

AT_ONCE = 4
"""Images that one core takes."""

Compute = Callable[[Tensor], dict[str, Tensor]]


def on_every_core(compute: Compute, image: Tensor) -> dict[str, Tensor]:
    """Return `compute(image)`, which treats each image by itself and may be called by several threads at once.

    Args:
        compute: maps images [N, …] to tensors [N, …] by name.
        image: shape [N, …]; on another device than a CPU, `compute` gets all of them.
    """
    if not image.is_cpu:
        return compute(image)
    parts, threads = torch.split(image, AT_ONCE), torch.get_num_threads()
    if threads == 1:
        found = list(map(compute, parts))
    else:
        inference = torch.is_inference_mode_enabled()  # a thread's own affair

        def one(part: Tensor) -> dict[str, Tensor]:
            with torch.inference_mode(inference):
                return compute(part)

        found = list(_cores(threads).map(one, parts))
        torch.set_num_threads(threads)  # the pool's threads have each set it to 1, for threads that are yet to come too
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}


@cache
def _cores(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "core", initializer=torch.set_num_threads, initargs=(1,))

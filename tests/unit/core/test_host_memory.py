import multiprocessing
import platform
import resource
from concurrent.futures import ProcessPoolExecutor

import psutil
import pytest
import torch

from bigtrain.core.host_memory import keep_freed_memory


def pages_of_large_tensors() -> int:
    """Return how many pages the system hands out for four tensors of 64 MiB, made and freed in turn."""
    for _ in range(12):  # the heap grows for a while
        torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def what_happens() -> tuple[list[int], list[int]]:
    """Return the pages handed out before and while memory is kept, and the bytes resident then and thereafter."""
    pages, resident = [pages_of_large_tensors()], []
    assert keep_freed_memory()
    pages.append(pages_of_large_tensors())
    resident.append(psutil.Process().memory_info().rss)
    assert keep_freed_memory(False)
    resident.append(psutil.Process().memory_info().rss)
    return pages, resident


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library is told")
def test_freed_memory_is_used_again_and_given_back_in_the_end() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        pages, resident = fresh.submit(what_happens).result()
    assert pages[0] >= 4 * 2**26 / resource.getpagesize()
    assert pages[1] < 100
    assert resident[1] < resident[0] - 2**26

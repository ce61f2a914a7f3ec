import platform
import resource

import pytest
import torch

from bigtrain.core.host_memory import keep_freed_memory


def faults_of_large_tensors() -> int:
    """Return how many pages the system hands out for four tensors of 64 MiB, made and freed in turn."""
    for _ in range(12):  # the heap grows for a while
        torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library is told")
def test_freed_memory_is_used_again() -> None:
    pages = [faults_of_large_tensors()]
    assert keep_freed_memory()
    try:
        pages.append(faults_of_large_tensors())
    finally:
        assert keep_freed_memory(False)
    pages.append(faults_of_large_tensors())
    assert pages[0] >= 4 * 2**26 / resource.getpagesize()
    assert pages[1] < 100
    assert pages[2] >= 4 * 2**26 / resource.getpagesize()

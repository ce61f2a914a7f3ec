"""The memory of this process: freed parts stay, for the next tensor, instead of going back to the system.

By itself the GNU C library takes every large block from the system and returns it when it is freed. A training step
frees and takes the same blocks over and over; each time the system clears them page by page, at their first touch.
"""

import ctypes
import platform

# Parameters of mallopt(3), and the values that the library comes to by itself where large blocks are freed.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_BY_ITSELF = {_TRIM_THRESHOLD: 2**26, _MMAP_THRESHOLD: 2**25, _MMAP_MAX: 65536}
_KEEP = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0}


def keep_freed_memory(keep: bool = True) -> bool:
    """Keep what is freed from here on, or go back to the library's own way and return to the system what can be.

    Returns:
        Whether that was done; other libraries than GNU's are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    done = [library.mallopt(parameter, value) for parameter, value in (_KEEP if keep else _BY_ITSELF).items()]
    if not keep:
        library.malloc_trim(0)
    return all(done)

"""Keep Python's garbage collector out of large imports, and of the end of a process.

PyTorch makes a million objects when it is imported. The collector looks at all of them, again and again, while they
are made, and once more when the process ends: two seconds of a processor in which nothing is found
(docs/how-to/operations.md has the numbers).
"""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Collect nothing for the length of a block, which imports much."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def resume() -> None:
    """Collect again after the imports of a program, whose objects stay to the end, and are not looked at any more."""
    gc.freeze()
    gc.enable()
    spare_the_end()


def spare_the_end() -> None:
    """Let this process end without a search for garbage, which ends with it anyway."""
    atexit.register(gc.freeze)

"""Datasets that `bigtrain data prepare NAME DEST` knows by name: one file a family, one line here a name."""

from collections.abc import Callable

from data_pipelines.prepare import fashion_mnist
from data_pipelines.write import Source

NAMED_SOURCES: dict[str, Callable[[int], Source]] = {
    "fashion-mnist": fashion_mnist.full,
    "fashion-mnist-10k": fashion_mnist.embedded,
}
"""Name -> a function from the resolution to the source."""

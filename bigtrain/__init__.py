"""Distributed, large-scale GAN training.

From Python: `import bigtrain as bt`, then `bt.prepare`, `bt.train`, `bt.load` and `bt.evaluate`; see `bigtrain.api`.
"""

import sys
from types import ModuleType

TYPE_CHECKING = False  # mypy knows the name; `typing` would be imported before the command can answer signals
if TYPE_CHECKING:
    from bigtrain.api import Model, Run, evaluate, load, prepare, train

    __version__: str

__all__ = ["Model", "Run", "evaluate", "load", "prepare", "train"]


def __getattr__(name: str) -> object:
    """Import the API, or look the version up, when it is used: commands start without either."""
    if name in __all__:
        from bigtrain import api

        return getattr(api, name)
    if name == "__version__":
        from importlib import metadata

        return metadata.version("bigtrain")
    raise AttributeError(f"module 'bigtrain' has no attribute '{name}'")


class _Package(ModuleType):
    """Keeps `bigtrain.train` the function: Python would put the module of that name in its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

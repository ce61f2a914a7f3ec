"""Hyperparameter sweeps: search spaces, searchers, schedulers, results. Trials are run by `launch.sweep`, with Ray."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bigtrain.sweep.tuner import trainable as trainable

__all__ = ["trainable"]


def __getattr__(name: str) -> Any:
    """Import Ray only for who asks for the trainable."""
    if name == "trainable":
        from bigtrain.sweep.tuner import trainable

        return trainable
    raise AttributeError(name)

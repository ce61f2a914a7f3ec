"""Operators with a fast path and a plain reference twin."""

from bigtrain.ops.twins import reference_paths

__all__ = ["reference_paths"]

"""Checkpoints: everything that a run needs to go on, in a folder that appears whole or not at all."""

from bigtrain.checkpoint.checkpoints import CheckpointError, Checkpoints
from bigtrain.checkpoint.contents import load_state
from bigtrain.checkpoint.folders import newest_description
from bigtrain.checkpoint.retention import CheckpointConfig

__all__ = ["CheckpointConfig", "CheckpointError", "Checkpoints", "load_state", "newest_description"]

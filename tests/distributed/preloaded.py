"""What the ranks of `ranks.on_ranks` are copies of: a process that has imported their programs."""

import gc

import torch

import bigtrain.train
import tests.training
from bigtrain.distributed.init import Ranks
from bigtrain.strategies.zero import import_deepspeed, quietly

with quietly():
    import_deepspeed(Ranks(0, 1, 0, torch.device("cpu")))
gc.freeze()

__all__ = ["bigtrain", "tests"]

"""The sockets of many ranks: what gloo opens for each rank and group, and the limit of open files."""

import resource
import subprocess
import sys

from bigtrain.distributed.init import join_ranks, leave_ranks

RANKS = 256

PROGRAM = f"""
import os, threading
from datetime import timedelta
import torch
from torch._C._distributed_c10d import HashStore, ProcessGroupGloo

store, groups = HashStore(), [None] * {RANKS}
before = len(os.listdir("/proc/self/fd"))

def on_every_rank(act):
    threads = [threading.Thread(target=act, args=(rank,)) for rank in range({RANKS})]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

def join(rank):
    groups[rank] = ProcessGroupGloo(store, rank, {RANKS}, timedelta(seconds=60))

def talk(rank):
    one = torch.ones(1)
    groups[rank].allreduce([one]).wait()
    assert one.item() == {RANKS}
    groups[rank].broadcast([one], 0).wait()
    everyone = [torch.zeros(1) for _ in range({RANKS})]
    groups[rank].allgather([everyone], [one]).wait()

on_every_rank(join)
on_every_rank(talk)
print((len(os.listdir("/proc/self/fd")) - before) / {RANKS})
os._exit(0)
"""


def test_a_rank_of_256_has_few_connections() -> None:
    join_ranks()  # sets what gloo goes by
    leave_ranks()
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    assert float(done.stdout) <= 64


def test_the_limit_of_open_files_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        join_ranks()
        leave_ranks()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

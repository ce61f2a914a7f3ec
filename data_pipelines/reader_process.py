"""What a reader process does: `python -m data_pipelines.reader_process`, started by `readers.ProcessReaders`.

It reads from its standard input which batches to make, and ends when that is closed.
"""

import signal

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)  # who asks all processes of a run to stop means the rank, which ends this one

import os
import pickle
import sys
from typing import BinaryIO

from data_pipelines.batches import BatchMaker, BatchPlan
from data_pipelines.errors import DataError
from data_pipelines.faults import FaultLog, FaultReport, silent
from data_pipelines.readers import ANSWER, ORDER, Slots


def serve(orders: BinaryIO, answers: BinaryIO) -> None:
    """Make batches as ordered."""
    plan, memory, count = pickle.loads(orders.read(*ANSWER.unpack(orders.read(ANSWER.size))))  # noqa: S301 - ours
    maker: BatchMaker | None = None
    faults = FaultLog()
    while len(order := orders.read(ORDER.size)) == ORDER.size:
        start, slot = ORDER.unpack(order)
        error = None
        try:
            if maker is None:
                maker, slots = _open(plan, memory, count, faults)
            maker.make(start, slots.batches[slot])
        except DataError as problem:
            error = str(problem)
        _send(answers, error, faults.report())


def _open(plan: BatchPlan, memory: int, count: int, faults: FaultLog) -> tuple[BatchMaker, Slots]:
    maker = BatchMaker(plan, plan.open(faults), faults)
    return maker, Slots(memory, maker.decoders, plan.size, count)


def _send(answers: BinaryIO, error: str | None, report: FaultReport) -> None:
    message = pickle.dumps((error, report))
    answers.write(ANSWER.pack(len(message)) + message)
    answers.flush()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    with silent():
        serve(sys.stdin.buffer, answers)

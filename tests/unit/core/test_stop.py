import subprocess
import sys

import pytest

RANK = """
import os, signal, sys, time
from bigtrain.core import stop
stop._JOIN_SECONDS = 0.3
stop.catch_signals()
if sys.argv[1] == "joined":
    stop.joined()
os.kill(os.getpid(), signal.SIGUSR1)
time.sleep(1)
print(stop.received())
"""


@pytest.mark.parametrize(("place", "code", "said"), [("joined", 0, "SIGUSR1\n"), ("waiting", 128 + 10, "")])
def test_who_waits_for_others_in_vain_leaves(place: str, code: int, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", RANK, place], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (code, said)


BLOCK = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
from bigtrain.core import stop
for _ in range(2):
    with stop.signals_caught():
        stop.joined()
        os.kill(os.getpid(), signal.SIGINT)
        while stop.received() is None:
            pass
        print(stop.received())
    print(stop.received())
    try:
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_signals_are_caught_in_a_block_alone() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCK], stdout=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "SIGINT\nNone\ninterrupted\n" * 2)

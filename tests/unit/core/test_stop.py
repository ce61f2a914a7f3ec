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

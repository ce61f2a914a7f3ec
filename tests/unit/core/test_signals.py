import signal
import subprocess
import sys
import time

import pytest

IMPORTING = """
import time
from bigtrain.core.signals import end_on_signals
end_on_signals("give it again", at_once=True)
print("ready", flush=True)
try:
    time.sleep(20)
except BaseException:  # as some libraries do while they are imported
    time.sleep(20)
"""


def test_a_command_that_is_loaded_ends_with_one_line() -> None:
    with subprocess.Popen([sys.executable, "-c", IMPORTING], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (3, "bigtrain: stopped by SIGINT; give it again\n")


PARENT = """
import os, signal, subprocess, sys, time
from bigtrain.core.signals import blocked_signals
with blocked_signals():
    child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
    child.send_signal(signal.SIGTERM)  # before the child's first line
sys.exit(child.wait())
"""
CHILD = """
from bigtrain.core import stop
stop.catch_signals()
stop.joined()
import time
time.sleep(0.2)
raise SystemExit(7 if stop.received() == "SIGTERM" else 1)
"""


def test_a_signal_waits_for_the_first_line_of_a_process() -> None:
    assert subprocess.run([sys.executable, "-c", PARENT, CHILD], timeout=60).returncode == 7


ENDING = """
import atexit, os, signal
from bigtrain.core import stop
class Late:
    def __del__(self):  # when modules are torn down, the interpreter has restored the default handlers
        os.kill(os.getpid(), signal.SIGTERM)
late = Late()
stop.catch_signals()
stop.joined()
"""


def test_a_signal_does_not_kill_a_process_that_is_ending() -> None:
    assert subprocess.run([sys.executable, "-c", ENDING], timeout=60).returncode == 0


RESTORED = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
from bigtrain.core.signals import end_on_signals, restore_signals
end_on_signals("x")
end_on_signals("y")
restore_signals()
os.kill(os.getpid(), signal.SIGUSR1)
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_command_that_does_not_answer_signals_itself_does_what_it_did() -> None:
    assert subprocess.run([sys.executable, "-c", RESTORED], timeout=60).returncode == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_answers_from_its_first_line_on(number: int) -> None:
    """The interpreter says what it imports: after this module, the handlers are there within a moment."""
    command = [sys.executable, "-X", "importtime", "-m", "bigtrain", "train", "none.yaml"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.rstrip().endswith(b"bigtrain.core.signals"):
                break
        time.sleep(0.02)
        process.send_signal(number)
        process.stderr.read()
    assert process.returncode == 3

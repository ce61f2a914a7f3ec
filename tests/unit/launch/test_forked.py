"""What torchrun asks of a rank's process."""

import os
import signal
import subprocess
import sys

import pytest

from launch.forked import ForkedProcess


def test_a_process_is_waited_for_like_a_subprocess() -> None:
    asleep = ForkedProcess(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid)
    assert asleep.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        asleep.wait(0.01)
    os.kill(asleep.pid, signal.SIGKILL)
    assert asleep.wait(20) == -signal.SIGKILL == asleep.poll()


def test_an_exit_code_is_kept() -> None:
    ended = ForkedProcess(subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]).pid)
    assert ended.wait(20) == 3
    assert ended.poll() == 3

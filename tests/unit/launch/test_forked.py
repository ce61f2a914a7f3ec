"""What torchrun asks of a rank's process."""

import os
import signal
import subprocess

import pytest

from launch.forked import ForkedProcess


def test_a_process_is_waited_for_like_a_subprocess() -> None:
    asleep = ForkedProcess(os.posix_spawn("/bin/sleep", ["sleep", "60"], {}))
    assert asleep.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        asleep.wait(0.01)
    os.kill(asleep.pid, signal.SIGKILL)
    assert asleep.wait(20) == -signal.SIGKILL == asleep.poll()


def test_an_exit_code_is_kept() -> None:
    ended = ForkedProcess(os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], {}))
    assert ended.wait(20) == 3
    assert ended.poll() == 3

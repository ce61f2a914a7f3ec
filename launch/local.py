"""Start the ranks of a run on this machine, through torchrun."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def run_ranks(module: str, arguments: Sequence[str], *, nproc: int, shutdown_seconds: int = 120) -> int:
    """Run `python -m module arguments` on `nproc` ranks, and hand signals on to them.

    Args:
        module: of bigtrain, run by every rank.
        arguments: of its command line.
        nproc: ranks, which share this machine's cores.
        shutdown_seconds: how long the ranks may take to save after a signal.

    Returns:
        0, the exit code of the first rank that failed, or 128 + the signal that came.
    """
    # By address, not by name: a bare container may not even resolve localhost.
    command = [sys.executable, "-m", "launch.agent", f"--nproc-per-node={nproc}", f"--rdzv-id={uuid.uuid4()}"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    command += [f"--shutdown-timeout={shutdown_seconds}"]
    # Without USR1 in this list, the signal would kill the agent and orphan the ranks.
    command += [f"--signals-to-handle={','.join(number.name for number in SIGNALS)}"]
    command += ["-m", module, *arguments]
    threads = max((os.cpu_count() or 1) // nproc, 1)
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "TORCHELASTIC_ERROR_FILE": os.devnull,
        **({"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}),
        **os.environ,
    }
    # A session of their own: Ctrl-C reaches this process alone, which passes it on once.
    ranks = subprocess.Popen(command, env=environment, start_new_session=True)

    def pass_on(number: int, frame: FrameType | None) -> None:
        ranks.send_signal(number)

    for number in SIGNALS:
        signal.signal(number, pass_on)
    return ranks.wait()

"""Who reaches the ports of a run, and what a stranger in the store can do."""

import base64
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
import torch.distributed as dist

from tests.conftest import ROOT
from tests.integration.test_training import wait_for

BIN = Path(sys.executable).parent
QUIET = ["eval.interval_kimg=0", "preview.interval_kimg=0", "snapshot.interval_kimg=0", "tracking.mlflow=false"]
QUIET += ["health.features_kimg=0"]
KEEPALIVE_SECONDS = 5
"""How often torchrun's own rendezvous reads (and unpickles) what is in its store."""


def listening(pid: int) -> list[tuple[str, int]]:
    """Return the addresses and ports at which a process and its descendants listen."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    sockets = [one for process in family for one in process.net_connections() if one.status == psutil.CONN_LISTEN]
    return [(one.laddr.ip, one.laddr.port) for one in sockets]


class Trap:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._path),)


def test_a_local_run_listens_on_loopback_and_unpickles_nothing(fashion: Path, tmp_path: Path) -> None:
    folder, trap = tmp_path / "run", tmp_path / "trap"
    command = [str(BIN / "bigtrain"), "train", str(ROOT / "tests/tiny.yaml"), *QUIET, "--nproc", "2"]
    command += ["log.interval_kimg=0.16", "total_kimg=100", f"data.path={fashion}", f"run_dir={folder}"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(folder, 160, run)
        found = listening(run.pid)
        assert found
        assert {address for address, _ in found} == {"127.0.0.1"}
        agent = psutil.Process(run.pid).children()[0]
        run_id = next(word for word in agent.cmdline() if word.startswith("--rdzv-id=")).removeprefix("--rdzv-id=")
        word = base64.b64encode(pickle.dumps(Trap(trap)))
        for own in (one.laddr.port for one in agent.net_connections() if one.status == psutil.CONN_LISTEN):
            store = dist.TCPStore("127.0.0.1", own, is_master=False, timeout=timedelta(seconds=20))
            store.set(f"torch.rendezvous.{run_id}", word)  # where torchrun's own rendezvous keeps its state
        ranks = agent.children()
        for rank in ranks:
            rank.suspend()  # the agent alone is asked
        time.sleep(2 * KEEPALIVE_SECONDS)
        for rank in ranks:
            rank.resume()
        assert not trap.exists()
        run.send_signal(signal.SIGTERM)
        output, _ = run.communicate(timeout=120)
    finally:
        run.kill()
    assert run.returncode == 3, output


def test_ray_on_one_machine_listens_on_loopback() -> None:
    """And its workers have the priority of their driver, with which trials do not stand still beside other work."""
    code = (
        "import os; from launch.sweep.driver import Resources, connected_ray\n"
        "from tests.integration.test_listening import listening\n"
        "with connected_ray(Resources(cpus=1.0)):\n"
        "    import ray\n"
        "    priority = ray.get(ray.remote(lambda: os.nice(0)).remote())\n"
        "    print(priority == os.nice(0), {address for address, _ in listening(os.getpid())})"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    same, addresses = done.stdout.splitlines()[-1].split(maxsplit=1)
    assert same == "True"
    assert {word.removeprefix("::ffff:") for word in eval(addresses)} == {"127.0.0.1"}


def test_the_watchdog_makes_no_folder_that_a_stranger_names(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from torch.distributed import distributed_c10d as c10d\n"
        "from bigtrain.distributed.init import join_ranks; from bigtrain.distributed.watchdog import *\n"
        "with Watchdog(WatchdogConfig(step_seconds=1.0), join_ranks(), Path(sys.argv[1])):\n"
        "    store = c10d.PrefixStore('watchdog', c10d._get_default_store())\n"
        "    store.set('folder', '../../stranger'); store.set('verdict', 'ended'); store.set('alarm', '1')\n"
        "    time.sleep(60)\n"
    )
    run = tmp_path / "some" / "run"
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 4, done.stderr
    assert [path.name for path in (run / "hangs").iterdir()] == ["unknown"]
    assert not list(tmp_path.rglob("stranger"))


def test_a_job_of_several_nodes_lets_nobody_into_its_store_who_does_not_know_its_token() -> None:
    """Two processes stand for the tasks of two nodes; the second one's store reaches the first one's."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = (
        "import sys, time; from datetime import timedelta; from torch._C._distributed_c10d import TCPStore\n"
        "from launch.gate import open_gate, open_way; from launch.meeting import LoopbackRendezvous\n"
        "first, gate = sys.argv[1] == '0', int(sys.argv[2])\n"
        "port = (open_gate if first else open_way)('127.0.0.1', gate, 'secret')\n"
        "info = LoopbackRendezvous('run', number=int(sys.argv[1]), agents=2, port=port).next_rendezvous()\n"
        "info.store.set(sys.argv[1], 'here'); info.store.wait(['0', '1'], timedelta(seconds=20))\n"
        "print('met', flush=True); sys.stdin.readline()\n"
    )
    nodes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(number), str(port)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in (0, 1)
    ]
    try:
        assert [node.stdout.readline() for node in nodes if node.stdout] == ["met\n", "met\n"]
        with pytest.raises(dist.DistError):  # PyTorch's own client, which knows of no token
            dist.TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(seconds=2))
        helpers = [helper for node in nodes for helper in psutil.Process(node.pid).children()]
        assert len(helpers) == 2
        helpers[0].terminate()  # as Slurm does to all processes of a job: the ranks still need the store
        time.sleep(0.2)
        assert helpers[0].is_running()
    finally:
        for node in nodes:
            node.communicate("\n", timeout=20)
    gone, alive = psutil.wait_procs(helpers, timeout=10)
    assert len(gone) == 2 and not alive

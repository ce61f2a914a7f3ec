"""A real Slurm cluster on this machine, thrown away afterwards: slurmctld, munge and slurmd that simulate nodes."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.network import Host, Network

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sinfo")

CONFIG = """\
ClusterName=test
SlurmctldHost={host}({address})
SlurmctldPort={controller}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdParameters=config_overrides
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/log/jobs.txt
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=20
ReturnToService=2
SlurmdTimeout=10
{nodes}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=10 MaxTime=INFINITE State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class SlurmCluster:
    """A cluster that runs.

    Attributes:
        folder: of its files; the daemons' logs are in `log`.
        environment: to call srun, sbatch, squeue with.
        hosts: the network namespaces of the nodes; empty where all share this machine's network.
        daemons: by name: `munged`, `slurmctld`, and the nodes `n1`, `n2`, …
    """

    folder: Path
    environment: dict[str, str]
    hosts: Mapping[str, Host] = field(default_factory=dict)
    daemons: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    def start(self, name: str, *command: str) -> None:
        """Start a daemon; without a command, a node's."""
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            command = command or (*self._inside(name), "slurmd", "-D", "-N", name)
            self.daemons[name] = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def _inside(self, name: str) -> list[str]:
        """Return what enters a node's network and takes its name, where it has one of its own."""
        if name not in self.hosts:
            return []
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name]
        return ["nsenter", f"--net=/run/netns/{self.hosts[name].namespace}", *named]  # keeps /sys, which slurmd needs

    def kill(self, name: str) -> None:
        """Kill a daemon, as a crash would."""
        self.daemons[name].kill()
        self.daemons[name].wait()

    def wait_for_nodes(self, count: int) -> None:
        """Wait until so many nodes are idle."""
        what = f"{count} nodes to be idle"
        _wait_for(lambda: self.run("sinfo", "-hplow", "-tidle", "-o%D").stdout.strip() == str(count), what, self.folder)

    def run(self, *command: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
        """Call one of Slurm's commands."""
        return subprocess.run(command, env=self.environment, timeout=timeout, capture_output=True, text=True)


def missing_programs() -> list[str]:
    """Return what of Slurm is not installed; `scripts/system-packages` installs it."""
    return [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]


@contextmanager
def slurm_cluster(
    folder: Path, *, nodes: int = 2, cpus: int = 2, network: Network | None = None
) -> Iterator[SlurmCluster]:
    """Start a cluster, and end it; it must be root's.

    Args:
        folder: for its files, short enough for a socket's path.
        nodes: how many to simulate: `n1`, `n2`, …
        cpus: of a node.
        network: where the nodes have addresses of their own; None for 127.0.0.1.
    """
    for part in ("state", "log", *(f"spool-n{number}" for number in range(1, nodes + 1))):
        (folder / part).mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    folder.chmod(0o755)
    host = socket.gethostname().split(".")[0]
    controller, *ports = _free_ports(nodes + 1)
    size = f"CPUs={cpus} RealMemory=4000 State=UNKNOWN"
    hosts = network.hosts if network else {}
    lines = []
    for name, port in zip([f"n{number}" for number in range(1, nodes + 1)], ports, strict=True):
        own = hosts.get(name)
        place = f"NodeHostname={name} NodeAddr={own.address}" if own else f"NodeHostname={host} NodeAddr=127.0.0.1"
        lines.append(f"NodeName={name} {place} Port={port} {size}")
    address = network.address if network else "127.0.0.1"
    config = folder / "slurm.conf"
    config.write_text(
        CONFIG.format(host=host, address=address, folder=folder, controller=controller, nodes="\n".join(lines))
    )
    environment = {**os.environ, "SLURM_CONF": str(config), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    munge = ["--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.sock"]
    munge += [
        f"--pid-file={folder}/munge.pid",
        f"--log-file={folder}/log/munged.log",
        f"--seed-file={folder}/munge.seed",
    ]
    cluster = SlurmCluster(folder, environment, hosts)
    try:
        cluster.start("munged", "munged", *munge)
        _wait_for((folder / "munge.sock").exists, "munged", folder)
        cluster.start("slurmctld", "slurmctld", "-D", "-c")
        for number in range(1, nodes + 1):
            cluster.start(f"n{number}")
        cluster.wait_for_nodes(nodes)
        yield cluster
        cluster.run("scancel", "--user=root")
        _wait_for(lambda: not cluster.run("squeue", "-h").stdout.strip(), "all jobs to end", folder)
    finally:
        daemons = list(reversed(cluster.daemons.values()))
        for daemon in daemons:
            daemon.send_signal(signal.SIGTERM)
        for daemon in daemons:
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]
    finally:
        for free in sockets:
            free.close()


def _wait_for(condition: Callable[[], bool], what: str, folder: Path, *, seconds: float = 60) -> None:
    """Wait until `condition()` is true.

    Raises:
        TimeoutError: it did not come true, with the ends of the daemons' logs.
    """
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            logs = "\n".join(f"{log.name}: {log.read_text()[-500:]}" for log in sorted((folder / "log").iterdir()))
            raise TimeoutError(f"waited {seconds:g} s for {what}\n{logs}")
        time.sleep(0.1)

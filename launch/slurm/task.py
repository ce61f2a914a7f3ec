"""What srun starts, once a node or once a rank: `python -m launch.slurm.task … -- CONFIG`.

It finds this node's network interface, has the dataset copied to the node's disk where that is wanted, opens the way to
the first node's store, and becomes torchrun's agent, or the rank itself.
"""

import argparse
import os
import socket
import sys
from collections.abc import Mapping, MutableMapping

import psutil

from bigtrain.core.signals import blocked_signals
from launch import gate

_LOOPBACK = "127.0.0.1"


def address_towards(host: str) -> str:
    """Return this machine's address on the way to `host`; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((host, 9))
        address: str = way.getsockname()[0]
        return address


def interface_of(address: str) -> str:
    """Return the name of the network interface that has an address.

    Raises:
        OSError: none has it.
    """
    for name, entries in psutil.net_if_addrs().items():
        if any(entry.address == address for entry in entries):
            return str(name)
    raise OSError(f"no network interface has the address {address}")


def sockets_of(
    head: str, *, alone: bool, interface: str | None, environment: Mapping[str, str]
) -> tuple[dict[str, str], str | None]:
    """Return the variables that name the interface of the ranks' messages, and what is wrong with them.

    A name that a distribution's /etc/hosts maps to 127.0.1.1 leads the first node to its own loopback interface, by
    which no other node is reached: the ranks would wait for each other until their time is up.

    Args:
        head: address of the first node.
        alone: whether the job has one node, which uses the loopback interface.
        interface: as configured; None to find it.
        environment: of the task; what it says already wins.
    """
    found = "lo" if alone else interface or interface_of(address_towards(head))
    names = {name: environment.get(name, found) for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")}
    loopback = sorted(name for name, value in names.items() if value == "lo")
    if alone or interface == "lo" or not loopback:  # who configures it has several nodes on one machine
        return names, None
    why = f"the first node is called {head}, which is its loopback interface here"
    if loopback[0] in environment:
        why = f"the environment has {loopback[0]}=lo"
    return (
        names,
        f"{why}: other nodes cannot be reached with it; set `interface` in the site's file (see `ip -brief addr`)",
    )


def place_of(form: str, ranks_per_node: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Return a rank's variables from those of its task; with an agent, which numbers its ranks itself, none."""
    if form == "torchrun":
        return {}
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_NTASKS"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": str(ranks_per_node),
    }


def command_of(options: argparse.Namespace, environment: Mapping[str, str]) -> list[str]:
    """Return the command that this task becomes."""
    train = ["-m", "bigtrain.train", *options.words]
    if options.form == "srun":
        return [sys.executable, *train]
    nodes = int(environment["SLURM_NNODES"])
    several = (f"--nnodes={nodes}", f"--rdzv-conf=rank={environment['SLURM_NODEID']}")
    meeting = (*several, f"--rdzv-endpoint={_LOOPBACK}:{options.port}")
    return [
        *(sys.executable, "-m", "launch.agent", f"--nproc-per-node={options.ranks_per_node}"),
        *("--rdzv-backend=loopback", f"--local-addr={_LOOPBACK}", *(meeting if nodes > 1 else ())),
        f"--shutdown-timeout={options.save_seconds}",
        *train,
    ]


def way_to_the_store(
    form: str, head: str, port: int, environment: MutableMapping[str, str]
) -> tuple[int | None, str | None]:
    """Open this task's way to the store of the job's first one, by the token that the batch script has made.

    The token is taken out of the environment: neither agents nor ranks need it.

    Returns:
        The port of the loopback interface at which the store is to listen, or is reached; and what is wrong.
    """
    token = environment.pop(gate.TOKEN, None)
    if not token:
        return None, "the batch script was written by an older bigtrain and has no token: submit the run again"
    first = environment["SLURM_PROCID" if form == "srun" else "SLURM_NODEID"] == "0"
    return (gate.open_gate if first else gate.open_way)(head, port, token), None


def main() -> None:
    """Prepare this node, and become the agent or the rank."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--form", choices=("torchrun", "srun"), required=True)
    parser.add_argument("--ranks-per-node", type=int, required=True)
    parser.add_argument("--head", required=True, help="address of the first node")
    parser.add_argument("--port", required=True, help="where the ranks meet there")
    parser.add_argument("--save-seconds", type=int, default=120)
    parser.add_argument("--threads", type=int, default=1, help="of a rank")
    parser.add_argument("--interface", help="for the ranks' messages")
    parser.add_argument("--stage", help="folder on this node's disk")
    parser.add_argument("--data", action="append", default=[], help="a dataset to copy there")
    parser.add_argument("words", nargs="+", help="for bigtrain.train")
    options = parser.parse_args()
    alone = os.environ["SLURM_NNODES"] == "1"  # nobody else has to reach the ranks
    sockets, problem = sockets_of(
        _LOOPBACK if alone else options.head, alone=alone, interface=options.interface, environment=os.environ
    )
    if not alone and not problem:
        way, problem = way_to_the_store(options.form, options.head, int(options.port), os.environ)
        options.port = str(way)
    if problem:
        print(f"bigtrain: node {socket.gethostname()}: {problem}", file=sys.stderr)
        sys.exit(2)
    defaults = {**sockets, "OMP_NUM_THREADS": str(options.threads), "TORCHELASTIC_ERROR_FILE": os.devnull}
    place = place_of(options.form, options.ranks_per_node, os.environ)
    meeting = {"MASTER_ADDR": _LOOPBACK, "MASTER_PORT": options.port}
    os.environ.update({**defaults, **os.environ, **place, **meeting})
    if options.stage:
        from data_pipelines.staging import stage_or_say_why_not

        for place in options.data:
            stage_or_say_why_not(place, options.stage)
    command = command_of(options, os.environ)
    with blocked_signals():  # until the agent or the rank can take them
        os.execv(command[0], command)  # noqa: S606 - a list, no shell


if __name__ == "__main__":
    main()

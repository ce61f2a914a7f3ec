"""Where ranks meet: a store that listens on the first machine's loopback interface alone.

torchrun's own rendezvous would listen on all interfaces, and would unpickle what it finds in its store: whoever
reaches the port could run code as the user (docs/decisions/0047-ranks-meet-on-loopback.md). Other machines of a job
reach the store by `launch.gate`.
"""

import socket
from datetime import timedelta

from torch._C._distributed_c10d import PrefixStore, TCPStore  # torch.distributed has them without types
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)

BACKEND = "loopback"
"""The name for torchrun's `--rdzv-backend`."""
ADDRESS = "127.0.0.1"  # an address and not a name: a bare container may not even resolve localhost
_TIMEOUT = timedelta(minutes=10)


class LoopbackRendezvous(RendezvousHandler):
    """The rendezvous of a single agent, or of agents that know their numbers: nothing has to be agreed.

    Args:
        run_id: prefix of the keys in the store.
        number: of this agent; the first one has the store.
        agents: how many.
        port: where the store listens, or for other agents where it is reached from here; 0 for any.
    """

    def __init__(self, run_id: str, *, number: int = 0, agents: int = 1, port: int = 0) -> None:
        self._run_id, self._number, self._agents, self._port = run_id, number, agents, port
        if number:
            self._store = TCPStore(ADDRESS, port, is_master=False, timeout=_TIMEOUT)
            return
        listener = socket.create_server((ADDRESS, port))
        self._port = int(listener.getsockname()[1])
        self._store = TCPStore(
            ADDRESS, self._port, is_master=True, timeout=_TIMEOUT, master_listen_fd=listener.detach()
        )

    def get_backend(self) -> str:
        """See RendezvousHandler."""
        return BACKEND

    @property
    def use_agent_store(self) -> bool:
        """The ranks meet in the agent's store, too: none of them opens a port for another one."""
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        """See RendezvousHandler."""
        store, place = PrefixStore(self._run_id, self._store), RendezvousStoreInfo(ADDRESS, self._port)
        return RendezvousInfo(store, self._number, self._agents, place)

    def is_closed(self) -> bool:
        """See RendezvousHandler."""
        return False

    def set_closed(self) -> None:
        """See RendezvousHandler."""

    def num_nodes_waiting(self) -> int:
        """See RendezvousHandler."""
        return 0

    def get_run_id(self) -> str:
        """See RendezvousHandler."""
        return self._run_id

    def shutdown(self) -> bool:
        """See RendezvousHandler."""
        return True


def register() -> None:
    """Let torchrun know the backend."""
    rendezvous_handler_registry.register(BACKEND, _create)


def _create(parameters: RendezvousParameters) -> RendezvousHandler:
    agents, number = parameters.max_nodes, parameters.config.get("rank")
    if agents == 1:
        return LoopbackRendezvous(parameters.run_id)
    port = parameters.endpoint.removeprefix(f"{ADDRESS}:")
    if number is None or not port.isdecimal():
        raise ValueError(f"{BACKEND} for {agents} machines: the agent's number and the port of its store are missing")
    return LoopbackRendezvous(parameters.run_id, number=int(number), agents=agents, port=int(port))

"""Where ranks of one machine meet: a store that listens on the loopback interface alone.

torchrun's own rendezvous would listen on all interfaces, and would unpickle what it finds in its store: whoever
reaches the port could run code as the user (docs/decisions/0047-ranks-meet-on-loopback.md).
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
    """The rendezvous of a single agent: there is nobody to wait for.

    Args:
        run_id: prefix of the keys in the store.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        listener = socket.create_server((ADDRESS, 0))
        self._port: int = listener.getsockname()[1]
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
        """See RendezvousHandler: rank 0 of one agent."""
        return RendezvousInfo(PrefixStore(self._run_id, self._store), 0, 1, RendezvousStoreInfo(ADDRESS, self._port))

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
    if parameters.max_nodes != 1:
        raise ValueError(f"the rendezvous backend {BACKEND} is for one machine, not for {parameters.max_nodes}")
    return LoopbackRendezvous(parameters.run_id)

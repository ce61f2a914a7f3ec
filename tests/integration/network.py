"""Hosts with addresses of their own on this machine: network namespaces on a bridge, whose cables can be cut."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Host:
    """A network namespace.

    Attributes:
        namespace: its name.
        address: in it.
        cable: the end of its link at the bridge.
    """

    namespace: str
    address: str
    cable: str

    def cut(self) -> None:
        """Cut the host off: nothing reaches it or leaves it, and nobody is told."""
        _ip("link", "set", self.cable, "nomaster")

    def mend(self, bridge: str) -> None:
        """Let packets through again."""
        _ip("link", "set", self.cable, "master", bridge)


@dataclass(frozen=True)
class Network:
    """Hosts on a bridge.

    Attributes:
        bridge: its name.
        address: of this machine on it.
        hosts: by name.
    """

    bridge: str
    address: str
    hosts: dict[str, Host]

    def cut(self, name: str) -> None:
        """Cut a host's cable."""
        self.hosts[name].cut()

    def mend(self, name: str) -> None:
        """Put a host's cable back."""
        self.hosts[name].mend(self.bridge)


@contextmanager
def network_of(names: list[str]) -> Iterator[Network]:
    """Make hosts and join them, and take them away afterwards; must be root's."""
    number = os.getpid() % 250
    bridge = f"btbr{number}"
    hosts = {
        name: Host(f"bigtrain-{number}-{name}", f"10.79.{number}.{place}", f"bt{number}-{name}")
        for place, name in enumerate(names, start=1)
    }
    network = Network(bridge, f"10.79.{number}.254", hosts)
    try:
        _ip("link", "add", bridge, "type", "bridge")
        _ip("address", "add", f"{network.address}/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for host in hosts.values():
            _ip("netns", "add", host.namespace)
            _ip("link", "add", host.cable, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", host.namespace, "link", "set", device, "up")
            _ip("link", "set", host.cable, "master", bridge, "up")
        yield network
    finally:
        for host in hosts.values():
            subprocess.run(["ip", "netns", "delete", host.namespace], check=False)
        subprocess.run(["ip", "link", "delete", bridge], check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)

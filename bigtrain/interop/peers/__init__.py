"""The reference implementations, one file each; a new one is a new file and one line in the table below."""

from bigtrain.interop.peers import biggan, stylegan2, stylegan3
from bigtrain.interop.peers.base import Networks, Peer, Settings, Weights

PEERS: dict[str, Peer] = {
    "biggan": biggan,
    "stylegan2": stylegan2,
    "stylegan3": stylegan3,
}
"""Every peer by its name in a golden folder."""

__all__ = ["PEERS", "Networks", "Peer", "Settings", "Weights"]

"""The reference implementations, one file each; a new one is a new file and one line in the table below."""

from bigtrain.interop.peers import biggan, r3gan, stylegan2, stylegan3, superres
from bigtrain.interop.peers.base import Networks, Peer, Settings, Weights

PEERS: dict[str, Peer] = {
    "biggan": biggan,
    "r3gan": r3gan,
    "stylegan2": stylegan2,
    "stylegan3": stylegan3,
    "superres": superres,
}
"""Every peer by its name in a golden folder."""

__all__ = ["PEERS", "Networks", "Peer", "Settings", "Weights"]

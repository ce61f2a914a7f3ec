"""The reference implementations, one file each; a new one is a new file and one line in the table below."""

from bigtrain.interop.peers import biggan, hifigan, pix2pix, r3gan, stylegan2, stylegan3, superres
from bigtrain.interop.peers.base import Blueprint, Peer, Rename, Settings, Weights

PEERS: dict[str, Peer] = {
    "biggan": biggan,
    "hifigan": hifigan,
    "pix2pix": pix2pix,
    "r3gan": r3gan,
    "stylegan2": stylegan2,
    "stylegan3": stylegan3,
    "superres": superres,
}
"""Every peer by its name in a golden folder."""

__all__ = ["PEERS", "Blueprint", "Peer", "Rename", "Settings", "Weights"]

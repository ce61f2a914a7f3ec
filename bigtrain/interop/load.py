"""Loading a reference's weights into our networks: strictly, or not at all."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from bigtrain.interop.errors import InteropError
from bigtrain.interop.peers import Peer


def load_weights(network: nn.Module, peer: Peer, part: str, weights: Mapping[str, Tensor]) -> None:
    """Load the weights of one part, in place.

    Args:
        network: built as the peer's `networks` says.
        peer: whose names the weights have.
        part: `G` or `D`.
        weights: by the reference's names, those of the part after `part.`.

    Raises:
        InteropError: a weight of ours is missing, one of theirs has no place, or a shape differs.
    """
    theirs = {name.removeprefix(f"{part}."): value for name, value in weights.items() if name.startswith(f"{part}.")}
    renamed = {name: peer.rename(part, name) for name in theirs}
    found = {ours: theirs[name] for name, ours in renamed.items() if ours is not None}
    wanted = network.state_dict()
    missing, unused = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    if missing or unused:
        told = [f"{what} {_some(names)}" for what, names in (("missing", missing), ("no place for", unused)) if names]
        raise InteropError(f"weights of {part}: {'; '.join(told)}")
    for name, value in found.items():
        if value.shape != wanted[name].shape:
            raise InteropError(f"weights of {part}: {name} is {_size(value)}, the network's is {_size(wanted[name])}")
    network.load_state_dict(found)


def _some(names: Iterable[str]) -> str:
    first, *others = sorted(names)
    return f"{first} and {len(others)} more" if others else first


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"

"""Building a peer's networks and loading its weights: strictly, or not at all."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError
from torch import Tensor

from bigtrain.interop.errors import InteropError
from bigtrain.interop.peers import PEERS, Rename, Settings, Weights
from bigtrain.models.network_spec import NetworkSpec


class Built(NamedTuple):
    """A network, what it was built from, and how the reference's names lead to its own."""

    spec: NetworkSpec
    network: Any
    rename: Rename


def build_networks(name: str, settings: Settings, weights: Weights) -> dict[str, Built]:
    """Build those of a peer's networks that there are weights of.

    Args:
        name: of the peer, a key of PEERS.
        settings: in the reference's own words.
        weights: those of each network after its part, `G.` or `D.` for example.

    Returns:
        The networks by their parts, in evaluation mode.

    Raises:
        InteropError: a setting is missing or impossible, or the weights do not fit.
    """
    try:
        built = {
            part: Built(blueprint.spec, blueprint.spec.build(), blueprint.rename)
            for part, blueprint in PEERS[name].networks(settings, weights).items()
            if any(weight.startswith(f"{part}.") for weight in weights)
        }
    except KeyError as error:
        raise InteropError(f"the settings or weights lack {error}") from None
    except ValidationError as error:
        detail = error.errors()[0]
        raise InteropError(f"{name}: {'.'.join(map(str, detail['loc']))}: {detail['msg']}") from None
    except ValueError as error:
        raise InteropError(f"{name}: {error}") from None
    unused = sorted(weight for weight in weights if weight.partition(".")[0] not in built)
    if unused:
        raise InteropError(f"weights without a network: {unused[0]}")
    for part, (_, network, rename) in built.items():
        theirs = {
            name.removeprefix(f"{part}."): value for name, value in weights.items() if name.startswith(f"{part}.")
        }
        network.load_state_dict(_ours(rename, part, theirs, network.state_dict()))
        network.eval()
    return built


def _ours(rename: Rename, part: str, theirs: Weights, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the weights of one part our names: all of those that the network wants, and no others."""
    try:
        renamed = {name: rename(name) for name in theirs}
    except KeyError as error:
        raise InteropError(f"weights of {part}: the network has no weight for {error}") from None
    found = {ours: theirs[name] for name, ours in renamed.items() if ours is not None}
    missing, unused = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    if missing or unused:
        differences = [f"{what} {_some(names)}" for what, names in (("missing", missing), ("unused", unused)) if names]
        raise InteropError(f"weights of {part}: {'; '.join(differences)}")
    for name, value in found.items():
        if value.shape != wanted[name].shape:
            raise InteropError(
                f"weights of {part}: {name} is {_size(value)}, but the network's is {_size(wanted[name])}"
            )
    return found


def _some(names: Iterable[str]) -> str:
    first, *others = sorted(names)
    return f"{first} and {len(others)} more" if others else first


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"

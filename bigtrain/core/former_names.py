"""Names of earlier versions: configs and snapshots that have them are read as if they had those of today."""

from collections.abc import Mapping
from typing import Any

from bigtrain.core.logging import log

NETWORKS = {"generator": "G", "discriminator": "D"}
"""What the two networks were called, in `init_from.parts` and in snapshots, before networks had names."""
SNAPSHOT = "bigtrain-snapshot/1"
"""The former format of snapshots, which held one generator and perhaps its discriminator."""

SWEEP_EVENTS = "journal.jsonl"
"""The event log of a sweep."""


def network_name(name: str) -> str:
    """Return the name that a network has today."""
    return NETWORKS.get(name, name)


def weights_file(network: str) -> str:
    """Return the file of a network's weights in a snapshot of format 2 whose description does not name it yet."""
    return f"{network}.safetensors"


def networks_of_format_1(description: Mapping[str, Any], image: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the networks of a snapshot of format 1 as format 2 describes them.

    Args:
        description: of the snapshot, with the config of each network by its role.
        image: what the networks are built for.
    """
    return {
        name: {
            "key": role,
            "role": role,
            "config": description[role],
            "images": [dict(image)],
            "weights": f"{role}.safetensors",
        }
        for role, name in NETWORKS.items()
        if role in description
    }


def with_optimizers_by_player(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a config whose `optim` names players: `lr_g` and `lr_d` beside common settings are the former way."""
    optim = config.get("optim")
    if not isinstance(optim, Mapping) or not {"lr_g", "lr_d"} <= optim.keys():
        return config
    common = {key: value for key, value in optim.items() if key not in ("lr_g", "lr_d")}
    players = {player: {"lr": optim[f"lr_{player.lower()}"], **common} for player in ("G", "D")}
    log.info("optim.lr_g and optim.lr_d are now optim.G.lr and optim.D.lr; the config is read as if it had them")
    return {**config, "optim": players}

"""Names of earlier versions: configs and snapshots that have them are read as if they had those of today."""

from collections.abc import Mapping
from typing import Any

from bigtrain.core.logging import log

NETWORKS = {"generator": "G", "discriminator": "D"}
"""What the two networks were called, in `init_from.parts` and in snapshots, before networks had names."""


def network_name(name: str) -> str:
    """Return the name that a network has today."""
    return NETWORKS.get(name, name)


def with_optimizers_by_player(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a config whose `optim` names players: `lr_g` and `lr_d` beside common settings are the former way."""
    optim = config.get("optim")
    if not isinstance(optim, Mapping) or not {"lr_g", "lr_d"} <= optim.keys():
        return config
    common = {key: value for key, value in optim.items() if key not in ("lr_g", "lr_d")}
    players = {player: {"lr": optim[f"lr_{player.lower()}"], **common} for player in ("G", "D")}
    log.info("optim.lr_g and optim.lr_d are now optim.G.lr and optim.D.lr; the config is read as if it had them")
    return {**config, "optim": players}

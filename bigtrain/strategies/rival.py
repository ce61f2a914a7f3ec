"""Whole copies of a player's networks for the losses of its rivals, where its weights are sharded over the ranks."""

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from bigtrain.engine.player import Player, Rivals

Named = Iterable[tuple[str, Tensor]]


class PlainCopy:
    """Frozen copies of a player's networks, free of hooks, whose weights are filled in when they are asked for.

    What else they hold is the originals': buffers, and parts without weights, such as how far a network has grown.

    Args:
        player: before it is sharded.
    """

    def __init__(self, player: Player) -> None:
        originals: dict[int, object] = {
            id(module): module for module in player.modules() if next(module.parameters(), None) is None
        }
        self._networks = nn.ModuleDict(copy.deepcopy(player.networks(), originals)).requires_grad_(False)
        for name, network in player.networks().items():
            for path, module in network.named_modules():
                self._networks[name].get_submodule(path)._buffers.update(module._buffers)

    @torch.no_grad()
    def with_weights(self, player: Player, gather: Callable[[Named], Named]) -> Rivals:
        """Return the networks with the weights of the moment.

        Args:
            player: the original, sharded.
            gather: makes weights whole, from all ranks, in any order. Collective.
        """
        mine = dict(self._networks.named_parameters())
        for name, whole in gather((name, weight) for name, weight in player.named_parameters() if name in mine):
            mine[name].data = whole.detach()
        return dict(self._networks.named_children())

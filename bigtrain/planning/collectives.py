"""How long a collective operation takes: the alpha-beta model (Hockney 1994; Thakur et al. 2005).

A message of B bytes between two ranks takes alpha + B / beta. A ring of n ranks sends n - 1 messages of B / n to gather
or to reduce and scatter, twice as many to add up for all; a double binary tree (Sanders et al. 2009) adds up in
2 log2(n) latencies. Over several nodes each step is taken inside of the nodes first, where every card is left with its
share, which it then exchanges with its peers in other nodes, all cards of a node at the same time.
"""

import math

from bigtrain.planning.hardware import Cluster
from bigtrain.strategies.plans.base import Kind


def seconds(kind: Kind, size: float, cluster: Cluster) -> float:
    """Return the time of one operation over all ranks of a cluster.

    Args:
        kind: of the operation.
        size: bytes of the whole tensor: what is added up, what has been gathered, what is to be scattered.
        cluster: nodes and what connects them.
    """
    cards, nodes, assumed = cluster.gpus_per_node, cluster.nodes, cluster.assumed
    reached = assumed.bandwidth_share * assumed.reach.get(kind, 1.0)
    inside = _Ring(cards, assumed.link_latency_us * 1e-6, cluster.gpu.link_gb_s * 1e9 * reached)
    between = _Ring(nodes, assumed.network_latency_us * 1e-6, cluster.network / cards * reached)
    share = size / cards
    if kind == "broadcast":
        return between.pass_on(size) + inside.pass_on(size)
    if kind == "all_reduce":
        across = min(between.round(share, rounds=2), between.tree(share)) if nodes > 1 else 0.0
        return (
            inside.round(size, rounds=2) + across if nodes > 1 else min(inside.round(size, rounds=2), inside.tree(size))
        )
    return inside.round(size) + between.round(share)


class _Ring:
    """Ranks that each send to the next.

    Args:
        ranks: how many.
        alpha: seconds a message.
        beta: bytes a second of each rank.
    """

    def __init__(self, ranks: int, alpha: float, beta: float) -> None:
        self.ranks, self.alpha, self.beta = ranks, alpha, beta

    def round(self, size: float, *, rounds: int = 1) -> float:
        """Return the time in which each of `ranks` parts has gone round, once to gather or scatter, twice for both."""
        return rounds * (self.ranks - 1) * (self.alpha + size / self.ranks / self.beta)

    def tree(self, size: float) -> float:
        """Return the time of adding up and handing back through two binary trees, in pieces."""
        return 2 * math.log2(self.ranks) * self.alpha + 2 * size / self.beta if self.ranks > 1 else 0.0

    def pass_on(self, size: float) -> float:
        """Return the time of handing one rank's tensor to all, in pieces."""
        return (self.ranks - 1) * self.alpha + size / self.beta if self.ranks > 1 else 0.0

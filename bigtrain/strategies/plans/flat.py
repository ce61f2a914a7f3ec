"""What the flat strategy keeps and sends."""

from collections.abc import Sequence

from bigtrain.strategies.plans.base import Message, Parts, StrategyPlan


class FlatPlan(StrategyPlan):
    """All of everything; one message after the backward."""

    def at_step(self) -> Parts:
        """See StrategyPlan: gradients, and a row of them."""
        return Parts(gradients=self.moved, buffers=self.moved)

    def of_gradients(self, arrivals: Sequence[str]) -> list[Message]:
        """See StrategyPlan."""
        return [Message(f"gradients of {self.sizes.name}", "all_reduce", self.moved)]

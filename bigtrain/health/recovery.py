"""What is different after a rollback: slower learning and other noise, as functions of how many there were."""

from bigtrain.core.state import State


class Recovery:
    """Counts rollbacks; it survives each of them, and a crash.

    Args:
        lr_factor: multiplies the learning rates, once a rollback.
        seed: of the run's noise.

    Attributes:
        rollbacks: how many there were.
    """

    def __init__(self, lr_factor: float, seed: int) -> None:
        self._lr_factor, self._seed = lr_factor, seed
        self.rollbacks = 0

    @property
    def lr_factor(self) -> float:
        """What the learning rates are multiplied by now."""
        return self._lr_factor**self.rollbacks

    @property
    def seed(self) -> int:
        """The seed of the noise now."""
        return (self._seed + 0x9E3779B9 * self.rollbacks) % 2**32

    def state_dict(self) -> State:
        """See Stateful."""
        return {"rollbacks": self.rollbacks}

    def load_state_dict(self, state: State) -> None:
        """See Stateful."""
        self.rollbacks = state["rollbacks"]

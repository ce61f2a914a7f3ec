"""The interface of objects that are saved in checkpoints, and the progress of a run."""

from typing import Any, Protocol

State = dict[str, Any]
"""Nested dicts and lists of tensors, numbers, strings and None: nothing that needs code to be read back."""


class Stateful(Protocol):
    """An object whose state goes into the checkpoint under a name."""

    def state_dict(self) -> State:
        """Return everything needed to go on. Collective: every rank calls it."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Go on from `state`."""
        ...


class Progress:
    """How far a run has come, counted in real images shown to the discriminator over all ranks.

    Args:
        total: images to see in all.
        batch: real images of one step, over all of its phases.

    Attributes:
        samples_seen: images seen so far; every schedule and every random draw is a function of it.
    """

    def __init__(self, total: int, batch: int) -> None:
        self.total, self.batch = total, batch
        self.samples_seen = 0

    @property
    def kimg(self) -> float:
        """Thousands of images seen."""
        return self.samples_seen / 1000

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.samples_seen // self.batch

    @property
    def done(self) -> bool:
        """Whether the run has seen all of its images."""
        return self.samples_seen >= self.total

    def advance(self) -> None:
        """Count one step."""
        self.samples_seen += self.batch

    def passed(self, interval_kimg: float) -> bool:
        """Tell whether the last step reached a multiple of `interval_kimg` (0: never), or the end of the run."""
        if interval_kimg == 0:
            return False
        interval = interval_kimg * 1000
        return self.done or int(self.samples_seen / interval) > int((self.samples_seen - self.batch) / interval)

    def state_dict(self) -> State:
        """See Stateful."""
        return {"samples_seen": self.samples_seen}

    def load_state_dict(self, state: State) -> None:
        """See Stateful."""
        self.samples_seen = state["samples_seen"]

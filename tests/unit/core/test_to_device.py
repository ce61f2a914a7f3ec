"""Arrays on their way to a GPU that is not there: a buffer is not written again before it has been read."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from bigtrain.core import to_device
from bigtrain.core.to_device import ToDevice


class Event:
    """Counts what is done with it."""

    log: list[str]

    def __init__(self) -> None:
        self.number = sum(line.startswith("made") for line in Event.log)
        Event.log.append(f"made {self.number}")

    def record(self) -> None:
        Event.log.append(f"sent from {self.number}")

    def synchronize(self) -> None:
        Event.log.append(f"waited for {self.number}")


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Let copies to a GPU end at once, on the host; return where they were made from."""
    Event.log, sent = [], list[torch.Tensor]()

    def to(tensor: torch.Tensor, device: torch.device, non_blocking: bool = False) -> torch.Tensor:
        assert device.type == "cuda" and non_blocking
        sent.append(tensor)
        return tensor.clone()

    monkeypatch.setattr(torch.Tensor, "to", to)
    return sent


def ring() -> ToDevice:
    return ToDevice(torch.device("cuda", 0), pin=torch.empty_like, make_event=Event)  # type: ignore[arg-type]


def test_an_array_may_be_written_again_as_soon_as_it_is_sent(copies: list[torch.Tensor]) -> None:
    """The slots of reading processes are: a copy from them that is still under way would send the next batch."""
    sender, slot = ring(), np.zeros((2, 3), np.uint8)
    sent = []
    for number in range(7):
        slot[...] = number
        sent.append(sender.send("image", slot))
    assert [int(tensor[0, 0]) for tensor in sent] == list(range(7))
    assert all(tensor.data_ptr() != torch.from_numpy(slot).data_ptr() for tensor in copies)
    assert len({tensor.data_ptr() for tensor in copies}) == to_device._SLOTS


def test_a_buffer_waits_for_its_own_copy_alone(copies: list[torch.Tensor]) -> None:
    sender = ring()
    for number in range(4):
        sender.send("image", np.full(2, number))
    assert Event.log == [
        *("made 0", "sent from 0", "made 1", "sent from 1", "made 2", "sent from 2"),
        *("waited for 0", "sent from 0"),
    ]


def test_arrays_have_buffers_of_their_own_and_a_new_shape_gets_new_ones(copies: list[torch.Tensor]) -> None:
    sender = ring()
    sender.send("image", np.zeros(2))
    sender.send("class", np.zeros(2))
    sender.send("image", np.zeros(3))
    assert Event.log == [
        *("made 0", "sent from 0", "made 1", "sent from 1"),
        *("waited for 0", "made 2", "sent from 2"),
    ]


def test_a_cpu_takes_arrays_as_they_are() -> None:
    array = np.arange(3)
    assert ToDevice(torch.device("cpu")).send("x", array).data_ptr() == torch.from_numpy(array).data_ptr()


def test_a_gpu_gets_what_was_sent() -> None:
    Event.log = []
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert ring().send("x", np.arange(3)).device == torch.device("cuda", 0)

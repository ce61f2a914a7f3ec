"""What a rank reads of a checkpoint: its own share, whatever number of ranks and whatever strategy wrote it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.tensor import DTensor

from bigtrain.checkpoint import CheckpointConfig, Checkpoints
from bigtrain.checkpoint.contents import open_state, shapes_of, split
from bigtrain.checkpoint.pieces import Piece, own_pieces, write_pieces
from bigtrain.core.errors import UserError
from bigtrain.core.state import Progress, State
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.memory import LiveBytes, local_bytes
from bigtrain.engine.optimizers import AdamConfig
from bigtrain.engine.strategy import Strategy
from tests.distributed.ranks import end_ranks, on_ranks
from tests.training import STRATEGIES

TARGET = 1.2
"""Bytes that a rank reads while it loads, and bytes of the tensors that it makes meanwhile, in bytes of its share."""
SHAPES: dict[str, tuple[int, ...]] = {"long": (2047, 1024), "short": (3, 700_001), "bias": (1023,), "gain": ()}
WHOLE = {"ddp": (True, True), "zero1": (True, False), "zero2": (True, False), "zero3": (False, False)}
"""Whether a rank keeps complete weights, and complete moments."""


class Weights(nn.Module):
    """A player of 17 MB, whose rows do not divide evenly over ranks."""

    def __init__(self) -> None:
        super().__init__()
        for name, shape in SHAPES.items():
            self.register_parameter(name, nn.Parameter(torch.full(shape, 0.5)))
        self.register_buffer("mean", torch.zeros(5))

    def networks(self) -> dict[str, nn.Module]:
        return {}


def state_of(player: nn.Module) -> State:
    """Return a state in which no two numbers are equal."""
    generator = torch.Generator().manual_seed(1)
    weights = {name: torch.rand(value.shape, generator=generator) for name, value in player.state_dict().items()}
    moments = {
        name: {
            "step": torch.tensor(7.0),
            **{key: torch.rand(shape, generator=generator) for key in ("exp_avg", "exp_avg_sq")},
        }
        for name, shape in SHAPES.items()
    }
    return {"player": weights, "optimizer": moments}


def build(kind: str) -> Strategy:
    ranks = Ranks(dist.get_rank(), dist.get_world_size(), dist.get_rank(), torch.device("cpu"))
    return STRATEGIES[kind].build(Weights(), AdamConfig(lr=0.1), "fp32", 1, ranks)  # type: ignore[arg-type]


def write(folder: Path, kind: str) -> None:
    strategy, progress = build(kind), Progress(1, 1)
    strategy.load_state_dict(state_of(Weights()))
    checkpoints = Checkpoints(CheckpointConfig(interval_kimg=1), folder, {"D": strategy, "progress": progress})
    checkpoints.save(progress)
    checkpoints.wait()


def read(folder: Path, *kinds: str) -> list[dict[str, Any]]:
    return [read_as(kind, folder) for kind in kinds]


def read_as(kind: str, folder: Path) -> dict[str, Any]:
    """Load the checkpoint, and compare every bit; return bytes read and additional memory, in shares."""
    strategy = build(kind)
    path, place = next(folder.glob("kimg*")), {"rank": dist.get_rank(), "world_size": dist.get_world_size()}
    strategy.load_shares(open_state(path, "D", **place))
    same = [torch.equal(one, other) for one, other in pairs(strategy.state_dict(), state_of(Weights()))]
    # Counted the second time: at first, DTensor tries operators on tensors without memory, and modules are imported.
    state = open_state(path, "D", **place)
    before = bytes_read()
    with LiveBytes() as live:
        strategy.load_shares(state)
    read = bytes_read() - before
    share = share_of(kind, strategy)
    return {
        "kind": kind,
        "read": read / share,
        "memory": live.peak / share,
        "same": all(same) and len(same) == 5 + 3 * 4,
    }


def share_of(kind: str, strategy: Strategy) -> float:
    """Return the bytes that this rank has to know of weights and moments."""
    if kind == "fsdp":
        return local_bytes(split(strategy.state_dict())[1].values())
    weights = sum(value.nbytes for value in Weights().state_dict().values())
    parts = [1.0 if whole else 1.0 / dist.get_world_size() for whole in WHOLE[kind]]
    return parts[0] * weights + parts[1] * 2 * weights


def pairs(one: Any, other: Any) -> Any:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return [pair for key in one for pair in pairs(one[key], other[key])]
    return [(one.full_tensor() if isinstance(one, DTensor) else one, other)]


def bytes_read() -> int:
    """Return the bytes that this process has read from files."""
    return int(Path("/proc/self/io").read_text().split()[1])


def check(found: list[list[dict[str, Any]]]) -> None:
    print(*(one for rank in found for one in rank), sep="\n")
    for one in (one for rank in found for one in rank):
        assert one["same"], one
        assert one["read"] <= TARGET, one
        assert one["memory"] <= TARGET, one


def test_a_rank_of_fsdp_reads_its_share_alone(tmp_path: Path) -> None:
    on_ranks(2, write, tmp_path, tmp_path / "run", "fsdp")
    check(on_ranks(2, read, tmp_path, tmp_path / "run", "fsdp"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("ranks", "kind"), [(2, "fsdp"), (3, "zero1"), (2, "zero3"), (1, "ddp")])
def test_so_does_each_rank_of_another_strategy_and_number_of_ranks(tmp_path: Path, ranks: int, kind: str) -> None:
    end_ranks()
    on_ranks(ranks, write, tmp_path, tmp_path / "run", kind)
    for readers in (1, 2, 4):
        end_ranks()  # DTensor keeps a rank's place in the group, and a process that is kept may get another number
        check(on_ranks(readers, read, tmp_path, tmp_path / "run", "fsdp", *WHOLE))


RANKS = 16


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A checkpoint of 17 MB as 16 ranks of FSDP write it, and its tensors."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tensors = {f"G/{number}": torch.rand(number * 480 + 100, 256) for number in range(8)}
    steps = {f"G/step{number}": torch.tensor(float(number)) for number in range(8)}
    for rank in range(RANKS):
        pieces = own_pieces(steps, rank, RANKS)
        for name, tensor in tensors.items():
            first, last = rows_of(tensor, rank, RANKS)
            pieces[name] = Piece(tensor[first:last], (first, 0))
        write_pieces(folder, pieces, rank)
    describe(folder, {**tensors, **steps})
    return folder, tensors


def rows_of(tensor: torch.Tensor, rank: int, ranks: int) -> tuple[int, int]:
    each = -(-len(tensor) // ranks)
    return min(rank * each, len(tensor)), min((rank + 1) * each, len(tensor))


def describe(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    state = {"G": {name[2:]: {"$tensor": name} for name in tensors}}
    (folder / "checkpoint.json").write_text(json.dumps({"state": state, "tensors": shapes_of(tensors)}))


@pytest.mark.parametrize("ranks", [1, 8, 16, 24])
def test_other_numbers_of_ranks_open_few_files(written: tuple[Path, dict[str, torch.Tensor]], ranks: int) -> None:
    folder, tensors = written
    for rank in range(ranks):
        before = bytes_read()
        state = open_state(folder, "G", rank=rank, world_size=ranks)
        assert [state[f"step{number}"].whole().item() for number in range(8)] == list(range(8))
        for name, tensor in tensors.items():
            first, last = (tensor.shape[1] * row for row in rows_of(tensor, rank, ranks))
            assert torch.equal(state[name[2:]].read(first, last), tensor.flatten()[first:last])
        assert bytes_read() - before <= TARGET * sum(tensor.nbytes for tensor in tensors.values()) / ranks


@given(
    shape=st.sampled_from([(), (1,), (7,), (3, 2), (2, 3, 4), (0, 3), (5, 1)]),
    writers=st.integers(1, 6),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.bool]),
    ends=st.tuples(st.integers(0, 24), st.integers(0, 24)),
    rank=st.integers(0, 2),
)
@settings(deadline=None, max_examples=40)
def test_every_part_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, ...],
    writers: int,
    dtype: torch.dtype,
    ends: tuple[int, int],
    rank: int,
) -> None:
    folder = tmp_path_factory.mktemp("checkpoint")
    tensors = {"G/a": torch.rand(4, 3), "G/b": (10 * torch.rand(shape)).to(dtype)}
    for number in range(writers):
        write_pieces(folder, own_pieces(tensors, number, writers), number)
    describe(folder, tensors)
    saved = open_state(folder, "G", rank=rank, world_size=3)["b"]
    start, stop = (min(end, tensors["G/b"].numel()) for end in sorted(ends))
    assert torch.equal(saved.read(start, stop), tensors["G/b"].flatten()[start:stop])
    assert torch.equal(saved.whole(), tensors["G/b"])


def damaged(content: bytes) -> list[bytes]:
    """Return a file that ends too early, is empty, and whose header is no JSON, too long, and of other sizes."""
    other = content.replace(b'"shape":[8,3]', b'"shape":[9,3]')
    return [content[:-1], b"", b"\x05" + content[1:], b"\xff" * 8 + content[8:], other]


@pytest.mark.parametrize("number", range(5))
def test_a_damaged_file_is_an_error(tmp_path: Path, number: int) -> None:
    (path,) = write_pieces(tmp_path, own_pieces({"G/a": torch.rand(8, 3)}, 0, 1), 0)
    describe(tmp_path, {"G/a": torch.rand(8, 3)})
    path.write_bytes(damaged(path.read_bytes())[number])
    with pytest.raises(OSError, match=r"shard-00001.*(ends too early|not a safetensors file)"):
        open_state(tmp_path, "G")["a"].whole()


def test_a_network_of_another_size_is_one_line(tmp_path: Path) -> None:
    describe(tmp_path, {"G/a": torch.rand(8, 3)})
    with pytest.raises(UserError, match=r"G/a has the shape \[8, 3\], but the networks of this config need \[9, 3\]"):
        open_state(tmp_path, "G")["a"].of_shape((9, 3))

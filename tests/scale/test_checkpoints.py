"""What each of 1,024 ranks does for a checkpoint of 3,000 tensors: equal shares, no plan, small messages."""

import json
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigtrain.checkpoint.contents import load_state, shapes_of
from bigtrain.checkpoint.pieces import own_pieces, write_pieces

RANKS = 1024


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """Weights, moments and averages of a network of a billion parameters, on no device."""
    shapes = [(1024, 512, 3, 3), (1024, 1024, 3, 3), (1024,), (512, 4096), (), (4096, 1024)]
    with torch.device("meta"):
        return {f"G/{number}": torch.empty(shapes[number % len(shapes)]) for number in range(3000)}


def test_ranks_share_the_writing_evenly_and_hear_of_no_plan(tensors: dict[str, torch.Tensor]) -> None:
    total = sum(tensor.nbytes for tensor in tensors.values())
    start = time.process_time()
    pieces = own_pieces(tensors, 0, RANKS)
    assert time.process_time() - start <= 2.0
    some = (own_pieces(tensors, rank, RANKS).values() for rank in range(0, RANKS, 31))
    shares = [sum(piece.tensor.nbytes for piece in one) for one in some]
    assert max(shares) <= 1.1 * total / RANKS
    told = {"shard-00001-model-00001-of-00001.safetensors": {"bytes": 10**9, "sha256": "a" * 64, "objects": ["G"]}}
    assert len(json.dumps(told)) * RANKS <= 10e6  # what rank 0 gathers
    assert pieces


SHAPES = st.lists(st.sampled_from([(), (1,), (7,), (3, 2), (2, 3, 4), (0, 3), (5, 1)]), min_size=1, max_size=6)


@given(shapes=SHAPES, ranks=st.integers(1, 9))
@settings(deadline=None, max_examples=40)
def test_the_pieces_of_all_ranks_are_the_whole(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[int, ...]], ranks: int
) -> None:
    folder = tmp_path_factory.mktemp("checkpoint")
    tensors = {f"x/{number}": torch.rand(shape) for number, shape in enumerate(shapes)}
    for rank in range(ranks):
        write_pieces(folder, own_pieces(tensors, rank, ranks), rank)
    document = {"state": {"x": {name[2:]: {"$tensor": name} for name in tensors}}}
    for about in (document, {**document, "tensors": shapes_of(tensors)}):  # as older ones were, and as they are
        (folder / "checkpoint.json").write_text(json.dumps(about))
        state = load_state(folder, "x")
        assert all(torch.equal(state[name[2:]], tensor) for name, tensor in tensors.items())


def test_a_piece_that_is_missing_is_said(tmp_path: Path) -> None:
    tensors = {"x/a": torch.rand(8, 3)}
    write_pieces(tmp_path, own_pieces(tensors, 1, 2), 1)
    about = {"state": {"x": {"a": {"$tensor": "x/a"}}}, "tensors": shapes_of(tensors)}
    (tmp_path / "checkpoint.json").write_text(json.dumps(about))
    with pytest.raises(OSError, match="x/a is incomplete"):
        load_state(tmp_path, "x")

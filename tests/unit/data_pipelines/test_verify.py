"""Verifying finds whatever is wrong, and says of which sample."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.faults import Fault
from data_pipelines.read import ShardDataset
from data_pipelines.verify import verify
from tests.unit.data_pipelines.faulty_server import serve

SHARD, INDEX = "shard-000002.tar", "shard-000002.index.npy"


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 4]))


def offset(folder: Path, row: int) -> int:
    return int(np.load(folder / INDEX)[row]["offset"])


def flip_payload(folder: Path) -> None:
    flip(folder / SHARD, offset(folder, 3) + 20)


def flip_header(folder: Path) -> None:
    flip(folder / SHARD, offset(folder, 3) - 512 + 130)


def flip_header_of_label(folder: Path) -> None:
    flip(folder / SHARD, offset(folder, 3) - 1024 - 512 + 130)


def truncate(folder: Path) -> None:
    with (folder / SHARD).open("r+b") as file:
        file.truncate(offset(folder, 4) - 512)  # on a member's header, where plain readers see the end


def remove(folder: Path) -> None:
    (folder / SHARD).unlink()


def remove_index(folder: Path) -> None:
    (folder / INDEX).unlink()


def cut_index(folder: Path) -> None:
    with (folder / INDEX).open("r+b") as file:
        file.truncate(150)


def swap_label(folder: Path) -> None:
    rows = np.load(folder / INDEX)
    rows["label"][0] = (rows["label"][0] + 1) % 3
    np.save(folder / INDEX, rows)


def shift_offset(folder: Path) -> None:
    rows = np.load(folder / INDEX)
    rows["offset"][5] += 1
    np.save(folder / INDEX, rows)


QUICK = [truncate, remove, remove_index, cut_index, swap_label]


@pytest.mark.parametrize("damage", QUICK)
def test_what_a_quick_look_finds(tiny_shards: Path, damage: Callable[[Path], None]) -> None:
    damage(tiny_shards)
    faults = verify(tiny_shards)
    assert [fault.file for fault in faults] == [SHARD]


@pytest.mark.parametrize("damage", [*QUICK, flip_payload, flip_header, flip_header_of_label, shift_offset])
def test_what_a_deep_look_finds(tiny_shards: Path, damage: Callable[[Path], None]) -> None:
    damage(tiny_shards)
    faults = verify(tiny_shards, deep=True)
    assert faults
    assert {fault.file for fault in faults} == {SHARD}


def test_it_names_every_damaged_sample(tiny_shards: Path) -> None:
    for row in (1, 6):
        flip(tiny_shards / SHARD, offset(tiny_shards, row) + 30)
    faults = verify(tiny_shards, deep=True)
    assert [fault.row for fault in faults] == [None, 1, 6]
    assert "sha256" in faults[0].problem
    assert all("checksum" in fault.problem for fault in faults[1:])


def test_a_flipped_header_hides_samples_from_readers_of_tars_only(tiny_shards: Path) -> None:
    flip_header(tiny_shards)
    problems = [fault.problem for fault in verify(tiny_shards, deep=True)]
    assert any("damaged headers hide 5 of 8 image members" in problem for problem in problems)
    ShardDataset(tiny_shards).read([(2, row) for row in range(8)])


def test_every_shard_is_counted_and_a_whole_set_has_no_fault(tiny_shards: Path) -> None:
    seen: list[int] = []
    assert verify(tiny_shards, on_start=lambda shards: seen.append(shards), on_shard=lambda: seen.append(0)) == []
    assert seen == [7] + [0] * 7


def test_a_set_on_a_server_is_verified(tiny_shards: Path) -> None:
    remove(tiny_shards)
    with serve(tiny_shards) as server:
        faults = verify(server.url, deep=True)
    assert [(fault.file, "404" in fault.problem) for fault in faults] == [(SHARD, True)]


def test_a_fault_is_a_line() -> None:
    assert str(Fault("a.tar", "gone")) == "a.tar: gone"
    assert str(Fault("a.tar", "flipped", 3)) == "a.tar: sample 3: flipped"
    assert json.dumps(vars(Fault("a.tar", "gone")))

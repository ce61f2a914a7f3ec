import json
from pathlib import Path

from bigtrain.run.failures import cause_of_failure, forget_failures, note_failure


def fail(folder: Path, rank: int, error: Exception) -> None:
    try:
        raise error
    except Exception as caught:
        note_failure(folder, rank, caught)


LOST = RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.2]:4711")


def test_the_cause_is_what_the_first_rank_failed_of_that_lost_no_other(tmp_path: Path) -> None:
    assert cause_of_failure(tmp_path, world_size=2) is None
    fail(tmp_path, 0, LOST)
    fail(tmp_path, 3, ValueError("the cause, with http://user:secret@host"))
    fail(tmp_path, 1, KeyError("later"))
    cause = cause_of_failure(tmp_path, world_size=4)
    assert cause
    assert (cause["rank"], cause["error"].startswith("ValueError: the cause")) == (3, True)
    assert "in fail" in cause["traceback"]
    assert "secret" not in json.dumps(cause)
    forget_failures(tmp_path)
    assert cause_of_failure(tmp_path, world_size=4) is None


def test_a_rank_that_left_no_word_is_suspected(tmp_path: Path) -> None:
    for rank in (0, 1, 3):
        fail(tmp_path, rank, LOST)
    cause = cause_of_failure(tmp_path, world_size=4)
    assert cause
    assert cause["rank"] == 2
    assert "rank 2 recorded no error" in cause["error"]
    fail(tmp_path, 2, LOST)
    cause = cause_of_failure(tmp_path, world_size=4)
    assert cause
    assert "lost their connections: check the network" in cause["error"]


def test_a_folder_that_is_not_there_is_no_second_failure(tmp_path: Path) -> None:
    fail(tmp_path / "nowhere", 0, ValueError("x"))
    assert not (tmp_path / "nowhere").exists()


def test_what_nccl_says_of_a_lost_rank_is_no_cause(tmp_path: Path) -> None:
    fail(tmp_path, 0, RuntimeError("NCCL communicator was aborted on rank 0."))
    fail(tmp_path, 1, ValueError("the cause"))
    lost = [json.loads((tmp_path / "failures" / f"rank-{rank}.json").read_text())["lost"] for rank in (0, 1)]
    cause = cause_of_failure(tmp_path, world_size=2)
    assert lost == [True, False] and cause and cause["rank"] == 1

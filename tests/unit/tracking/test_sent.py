import json
import subprocess
import sys
from pathlib import Path

from bigtrain.tracking.sent import Sent, SentState, only_sender


def test_each_server_is_remembered_and_no_password(tmp_path: Path) -> None:
    state = SentState(tmp_path)
    state.save("postgresql://me:secret@one/mlflow", Sent("a", "digits", "1", {"metrics.jsonl": 7}))
    state.save("http://two", Sent("b", "digits", "1", {"metrics.jsonl": 3}))
    again = SentState(tmp_path)
    assert again.uri == "http://two"
    assert again.at("http://two").run_id == "b"
    assert again.at("postgresql://me:another@one/mlflow") == Sent("a", "digits", "1", {"metrics.jsonl": 7})
    assert again.at("http://three") == Sent()
    assert "secret" not in (tmp_path / "mlflow.json").read_text()
    assert json.loads((tmp_path / "mlflow.json").read_text())["run_id"] == "b"


def test_a_damaged_memory_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "mlflow.json").write_text('{"uri": "http')
    assert SentState(tmp_path).uri is None


def test_what_an_earlier_version_wrote_is_found(tmp_path: Path) -> None:
    (tmp_path / "mlflow.json").write_text('{"uri": "postgresql://me:***@one/mlflow", "run_id": "a"}')
    state = SentState(tmp_path)
    assert state.uri == "postgresql://***@one/mlflow"
    assert state.at("postgresql://me:p@ss@one/mlflow").run_id == "a"


def test_a_run_has_one_sender(tmp_path: Path) -> None:
    other = (
        "import sys, pathlib\nfrom bigtrain.tracking.sent import only_sender\n"
        "with only_sender(pathlib.Path(sys.argv[1]), wait=False) as alone: print(alone)"
    )
    command = [sys.executable, "-c", other, str(tmp_path)]
    with only_sender(tmp_path, wait=False) as alone:
        assert alone
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"

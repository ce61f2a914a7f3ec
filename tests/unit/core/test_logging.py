import io
from logging import FileHandler
from pathlib import Path

import pytest
from rich.console import Console

from bigtrain.core import logging
from bigtrain.core.state import Progress


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_shown_on_a_terminal_and_taken_away(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    written = io.StringIO()
    monkeypatch.setattr(logging, "console", Console(file=written, force_terminal=terminal, width=80))
    with logging.counted("evaluating", 4) as advance:
        advance(1)
        advance(3)
    text = written.getvalue()
    assert ("evaluating" in text) is terminal
    assert text.endswith("\x1b[2K") is terminal


def test_standard_output_is_for_the_answer_in_json_alone() -> None:
    before = logging.console.stderr
    with pytest.raises(ValueError, match="broken"), logging.answering_in_json(True):
        assert logging.console.stderr
        raise ValueError("broken")
    assert logging.console.stderr is before


def test_a_full_disk_hides_nothing_when_the_log_is_closed(tmp_path: Path) -> None:
    (tmp_path / "rank0.log").symlink_to("/dev/full")
    logging.log_to_file(tmp_path / "rank0.log")
    files = [handler for handler in logging.log.handlers if isinstance(handler, FileHandler)]
    files[0].stream.write("a last line, which is still in the buffer")
    logging.close_log_file()
    assert not set(files) & set(logging.log.handlers)


def test_the_bar_names_what_interrupts_training() -> None:
    with logging.Display(Progress(1000, 10), active=True) as display:
        (task,) = display._bars.tasks
        with display.during("evaluate"):
            assert task.description == "training (evaluate)"
        assert task.description == "training"
    with logging.Display(Progress(1000, 10), active=False) as display, display.during("evaluate"):
        assert not display._bars.tasks

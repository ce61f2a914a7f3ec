"""Runs the pages of docs/tutorials as they are written: files, Python and commands, in order."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from bigtrain import cli
from tests.conftest import ROOT

PAGES = ROOT / "docs" / "tutorials"
_BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_BAD_NEWS = {"health": {0, 1}}
"""Exit codes that a command may have on a page, where it is not 0 alone: a short run may have a critical finding."""


@dataclass(frozen=True)
class Block:
    """A block of a page: its language, the file that it is the content of, its text."""

    language: str
    file: str | None
    text: str


def blocks_of(page: str) -> Iterator[Block]:
    """Iterate over the blocks of a page that a reader runs or saves."""
    for language, file, text in _BLOCK.findall((PAGES / f"{page}.md").read_text()):
        if file or language in ("sh", "python"):
            yield Block(language, file or None, text)


def commands_of(block: Block) -> list[list[str]]:
    """Return the words of each command of a block of shell."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run_page(page: str, folder: Path, others: Mapping[str, Callable[[list[str]], None]] | None = None) -> None:
    """Do everything that a page says, in a folder.

    Args:
        page: its name.
        folder: where the reader is.
        others: what stands for commands that cannot run here, by their first words.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("OMP_NUM_THREADS", "1")
        for block in blocks_of(page):
            if block.file:
                Path(block.file).parent.mkdir(parents=True, exist_ok=True)
                Path(block.file).write_text(block.text)
            elif block.language == "python":
                Path("block.py").write_text(block.text)
                runpy.run_path("block.py")
            else:
                for words in commands_of(block):
                    stand_in = (others or {}).get(words[0]) or (others or {}).get(" ".join(words[:2]))
                    stand_in(words) if stand_in else run_command(words, patch)


def run_command(words: list[str], patch: pytest.MonkeyPatch) -> None:
    """Run a command of bigtrain: training as a process of its own, all else in this one."""
    assert words[0] == "bigtrain", words
    if words[1] in ("train", "tune"):
        command = [str(Path(sys.executable).parent / "bigtrain"), *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
        code, said = done.returncode, done.stdout + done.stderr
    else:
        patch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code, said = int(ended.value.code or 0), ""
    assert code in _BAD_NEWS.get(words[1], {0}), (words, code, said)

"""What users really have: the cases handed over beside the project, or in $BIGTRAIN_CASES, one test a case."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

FOLDER = Path(os.environ.get("BIGTRAIN_CASES", ROOT.parent / "shared" / "cases"))
CHECK = FOLDER / "check.py"
IDS = re.findall(r'^@case\("(\w+)"\)', CHECK.read_text(), re.M) if CHECK.is_file() else []

pytestmark = [
    pytest.mark.slow,  # all of them together take five to fifteen minutes
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not IDS, reason=f"no cases at {FOLDER} (set BIGTRAIN_CASES)"),
]


@pytest.fixture(scope="module")
def said() -> str:
    """Return what the checks of all cases say, a line each."""
    command = [sys.executable, CHECK.name, str(Path(sys.executable).with_name("bigtrain"))]
    return subprocess.run(command, cwd=FOLDER, capture_output=True, text=True).stdout


@pytest.mark.parametrize("case", IDS or ["none"])
def test_it_is_handled_right(said: str, case: str) -> None:
    line = next((line for line in said.splitlines() if re.match(rf"\w+ +{case} ", line)), f"{case} did not end: {said}")
    if line.startswith("skip"):
        pytest.skip(line)
    assert line.startswith("ok"), line

"""The process that sends to MLflow gives way to the training, until the run has ended."""

import os
import subprocess
import sys

import pytest

CODE = """
import os
from bigtrain.tracking.sender import _hurry
os.nice(10)
_hurry()
print(os.nice(0))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take a higher priority")
def test_it_takes_the_usual_priority_again() -> None:
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert int(run.stdout) <= os.nice(0)

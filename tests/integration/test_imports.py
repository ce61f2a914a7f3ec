"""What a program imports, as each import is time at every start of a rank and of the command."""

import os
import subprocess
import sys

import pytest

ELSEWHERE = {
    *("mlflow", "pandas", "scipy", "sklearn", "pyarrow", "sqlalchemy", "ray", "optuna", "matplotlib", "onnx"),
    *("deepspeed", "transformers", "torchvision", "requests", "datasets", "webdataset"),
}
"""Large packages that only some runs, or other processes, need."""

BEFORE_A_COMMAND = ELSEWHERE | {"torch", "numpy", "pydantic", "ruamel", "PIL"}


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("bigtrain", BEFORE_A_COMMAND | {"typer", "rich"}),
        ("bigtrain.cli", BEFORE_A_COMMAND),
        ("bigtrain.train", ELSEWHERE),
    ],
)
def test_nothing_is_imported_that_is_not_needed(module: str, unwanted: set[str]) -> None:
    program = f"import sys, {module}; print(sorted({unwanted!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout == "[]\n", done.stderr

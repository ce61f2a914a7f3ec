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


def test_an_import_leaves_nothing_that_a_copy_of_the_process_could_not_use() -> None:
    """Ranks are copies of an agent that has imported them: a GPU in use, or a pool of threads, would be lost."""
    program = """
import os, threading, torch

def refuse(*arguments, **options):
    raise AssertionError("an import asked for a GPU")

for name in ("init", "_lazy_init", "is_available", "device_count", "current_device", "get_device_properties"):
    setattr(torch.cuda, name, refuse)
import bigtrain.train, bigtrain.run.evaluate, bigtrain.generate.ranks, bigtrain.run.watch
print(threading.active_count(), len(os.listdir("/proc/self/task")))
"""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # it starts its threads anew in a copy
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout == "1 1\n", done.stderr

"""Runs that the tests of a file share."""

from pathlib import Path

import pytest

from tests.faults.runs import Runs


@pytest.fixture(scope="module")
def runs(fashion: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(fashion, tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def undisturbed(runs: Runs) -> Path:
    return runs.finish("undisturbed")

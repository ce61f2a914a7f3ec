"""The script for the first quarter of an hour on a GPU runs, on a CPU and with small networks."""

import os

import pytest

from benchmarks.gpu_acceptance import CHECKS, main


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", os.environ.get("DS_ACCELERATOR", "cpu"))


def test_all_checks_run_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    names = [name for name in CHECKS if name != "kernels"]  # the profiler reports that there is no GPU as an error
    assert main(["--device", "cpu", "--small", "--only", *names]) == 0
    rows = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()}
    left_out = {"golden", "benchmark", "waits", "compile", "cuda_graphs"}
    assert {name for name, outcome in rows.items() if outcome == "ok"} == set(names) - left_out


def test_a_check_that_fails_is_told_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(place: object) -> str:
        raise AssertionError("other bits")

    monkeypatch.setitem(CHECKS, "philox", wrong)
    assert main(["--device", "cpu", "--small", "--only", "philox", "machine"]) == 1
    out = capsys.readouterr().out
    assert "philox      FAILED" in out and "AssertionError: other bits" in out and "machine     ok" in out

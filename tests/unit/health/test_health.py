from pathlib import Path

import pytest
import torch

from bigtrain.core.state import Progress
from bigtrain.health.health import MONITORS, Health, HealthConfig
from bigtrain.health.monitor import Finding, History, Level, Monitor
from bigtrain.health.recovery import Recovery
from bigtrain.health.report import HealthError, is_critical, read_report, table, write_report


class Fever(Monitor):
    symptom, advice, reads = "fever", "rest", ("temperature",)
    least, window, collapse = 2, 3, True

    def assess(self, history: History) -> Finding:
        warmest = max(readings["temperature"] for readings in history)
        return Finding(Level.CRITICAL if warmest > 40 else Level.OK, f"{warmest} degrees")


def patient(events: list[tuple[str, str]]) -> tuple[Health, Progress]:
    health = Health(HealthConfig(max_skipped=3), lambda *event: events.append(event), [Fever])
    return health, Progress(100_000, 1000)


def test_what_changes_is_told_once_with_evidence_and_advice() -> None:
    events: list[tuple[str, str]] = []
    health, progress = patient(events)
    seen = []
    for temperature in (37, 37, 41, 41, 37, 37, 37):
        progress.advance()
        seen.append(health.observe({"temperature": float(temperature)}, progress).get("health/fever"))
        assert health.healthy == (seen[-1] != 2.0)
    assert seen == [None, 0, 2, 2, 2, 2, 0]  # the window remembers three readings
    assert [text for _, text in events] == [
        "ok -> critical: 41.0 degrees; what usually helps: rest",
        "critical -> ok: 37.0 degrees",
    ]
    (line,) = health.report()
    assert (line["state"], line["first_seen_kimg"], line["since_kimg"]) == ("ok", 3.0, 7.0)
    assert health.observe({"pressure": 1.0}, progress) == {}


def test_a_collapse_is_named_and_survives_a_resume(tmp_path: Path) -> None:
    health, progress = patient([])
    assert health.collapse is None
    for _ in range(2):
        health.observe({"temperature": 42.0}, progress)
    assert health.collapse == "fever: 42.0 degrees"
    again, _ = patient([])
    torch.save(health.state_dict(), tmp_path / "state.pt")
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert again.report() == health.report()
    assert again.collapse == health.collapse
    assert again.observe({"temperature": 37.0}, progress) == {"health/fever": 2.0}


def test_skipped_steps_in_a_row_are_counted_by_phase() -> None:
    health, _ = patient([])
    for skipped in (True, True, False, True, True):
        health.count_step("d", skipped=skipped)
        health.count_step("g", skipped=False)
    assert not health.healthy
    assert not health.at_standstill
    health.count_step("d", skipped=True)
    assert health.at_standstill
    assert health.collapse == "not_finite: 3 steps in a row without finite gradients"


def test_every_symptom_has_a_name_of_its_own_and_advice() -> None:
    assert len({monitor.symptom for monitor in MONITORS}) == len(MONITORS)
    assert all(monitor.advice and 1 <= monitor.least <= monitor.window for monitor in MONITORS)


def test_each_rollback_slows_learning_and_changes_the_noise() -> None:
    recovery = Recovery(0.5, seed=7)
    assert (recovery.lr_factor, recovery.seed) == (1.0, 7)
    recovery.load_state_dict({"rollbacks": 2})
    assert recovery.lr_factor == 0.25
    assert recovery.seed != 7
    assert 0 <= recovery.seed < 2**32
    assert recovery.state_dict() == {"rollbacks": 2}


def test_the_report_is_read_back_and_shown(tmp_path: Path) -> None:
    with pytest.raises(HealthError, match="not a run folder"):
        read_report(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(HealthError, match="before the first log interval"):
        read_report(tmp_path)
    health, progress = patient([])
    progress.advance()
    for temperature in (37.0, 41.0):
        write_report(tmp_path, health, Recovery(0.5, 0), progress)
        assert not is_critical(read_report(tmp_path))
        health.observe({"temperature": temperature}, progress)
    write_report(tmp_path, health, Recovery(0.5, 0), progress)
    report = read_report(tmp_path)
    assert is_critical(report)
    assert list(table(report).columns[3].cells) == ["41.0 degrees\n→ rest"]

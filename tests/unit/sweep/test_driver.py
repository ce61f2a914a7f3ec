"""Where Ray's sockets lie; Ray itself is not started."""

import os
import tempfile
from pathlib import Path

import pytest

from bigtrain.core.errors import UserError
from launch.sweep import driver


def test_a_long_tmpdir_is_no_place_for_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/short")
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    assert driver.short_folder() == "/short"
    long = tmp_path / "scratch/local/users/somebody/slurm_jobdir/1355700/tmp.t0016"
    long.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    place = driver.short_folder()
    assert len(place) <= 30
    socket = f"{place}/bt-ray-12345678/session_2026-11-29_20-44-02_123456_1234567/sockets/plasma_store"
    assert len(socket) <= 107
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"TMPDIR=.*tmp\.t0016: has \d+ characters.*set TMPDIR"):
        driver.short_folder()

"""Programs of several ranks take the settings that a command declares."""

import signal
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigtrain.core.config import ConfigError, config_from_words, config_to_words
from bigtrain.core.logging import console
from bigtrain.distributed.program import as_one_of_the_ranks, settings_of_program
from bigtrain.evaluation.evaluator import ScoreConfig
from bigtrain.generate.ranks import SampleSettings
from bigtrain.run.evaluate import EvaluateSettings, WatchSettings

PLAIN = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1)


@given(name=PLAIN, label=st.none() | PLAIN, truncation=st.floats(0, 1e30), columns=st.none() | st.integers(1))
def test_settings_arrive_as_they_were_given(
    name: str, label: str | None, truncation: float, columns: int | None
) -> None:
    settings = SampleSettings(snapshot=Path(name), out=Path("a=b"), label=label, truncation=truncation, columns=columns)
    found = config_from_words(SampleSettings, config_to_words(settings), source="x")
    assert found == settings
    assert found.model_fields_set == settings.model_fields_set


def test_what_was_not_set_stays_so() -> None:
    settings = WatchSettings(run=Path("run"), scores=ScoreConfig(metrics=("kid",), reference=None))
    words = config_to_words(settings)
    assert words == ['run="run"', 'scores={"metrics": ["kid"], "reference": null}']
    assert config_from_words(WatchSettings, words, source="x").scores.model_fields_set == {"metrics", "reference"}


def test_a_mistake_of_a_program_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "snapshot=x", "sample=5"])
    with pytest.raises(SystemExit) as ended:
        settings_of_program(EvaluateSettings, "bigtrain.run.evaluate")
    assert ended.value.code == 2
    told = "bigtrain: python -m bigtrain.run.evaluate: unknown key 'sample' (did you mean 'samples'?)\n"
    assert capsys.readouterr().err == told


def test_training_takes_a_config_overrides_and_settings_of_its_own() -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    from bigtrain.train import TrainSettings, settings_from_words  # sets handlers of its own

    for number, handler in handlers.items():
        signal.signal(number, handler)
    found = settings_from_words(["x.yaml", "seed=1", "stop_at_kimg=2.5", "ema.half_life_kimg=3"])
    assert found == TrainSettings(config="x.yaml", overrides=("seed=1", "ema.half_life_kimg=3"), stop_at_kimg=2.5)
    with pytest.raises(ConfigError, match="'allow_config_change': input should be a valid boolean"):
        settings_from_words(["x.yaml", "allow_config_change=2"])
    with pytest.raises(ConfigError, match=r"name a config: CONFIG \[key=value"):
        settings_from_words([])


def test_after_an_answer_in_json_the_console_writes_to_where_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    with as_one_of_the_ranks(answers_in_json=True):
        console.print("a line of the log")
    console.print("the next command's table")
    assert capsys.readouterr() == ("the next command's table\n", "a line of the log\n")

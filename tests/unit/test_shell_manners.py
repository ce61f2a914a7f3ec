"""How commands behave in a shell: JSON beside every table, tables of 80 columns, no colours in pipes, completion."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from bigtrain.cli import app
from bigtrain.core import logging
from bigtrain.evaluation.noise import Interval
from bigtrain.evaluation.protocol import Score
from bigtrain.evaluation.table import score_table
from bigtrain.health.report import table
from bigtrain.report.comparison import compare
from tests.conftest import ROOT
from tests.unit.evaluation.test_protocol import PROTOCOL

Command = Callable[..., tuple[int, str, str]]
TINY = str(ROOT / "tests" / "tiny.yaml")
LONGEST = ("discriminator_overfits/D_A", "mode_collapse/A.image")


def finding(symptom: str, state: str) -> dict[str, object]:
    evidence = "D is right about 77.6% of all images, logits are 1.0 apart, gradient_norm/d_main is 0.36 of its largest"
    return {"symptom": symptom, "state": state, "first_seen_kimg": 1000.0, "evidence": evidence, "advice": "less lr"}


def test_the_health_table_keeps_names_whole_at_80_columns() -> None:
    console = Console(width=80, file=io.StringIO())
    findings = [finding(LONGEST[0], "critical"), finding(LONGEST[1], "ok")]
    console.print(table({"kimg": 1000.0, "rollbacks": 0, "symptoms": findings}))
    text = console.file.getvalue()
    lines = text.splitlines()
    for word in (*LONGEST, "kimg 1000.0", "gradient_norm/d_main", "→ less lr"):
        assert word in text
    assert text.count("→") == 1, "advice is for what is not well"
    assert max(map(len, lines)) <= 80


def test_a_table_of_scores_keeps_every_character_at_80_columns() -> None:
    console = Console(width=80, file=io.StringIO())
    name = "fid50k_full_probe-0123456789ab_bf16_truncated/B.image"
    score = Score(123.456789, PROTOCOL, noise=Interval(100.1234, 145.6789, 11.0))
    console.print(score_table({f"eval/{name}": score}))
    _, *rows = console.file.getvalue().splitlines()
    assert "".join(row.split()[0] for row in rows) == name
    assert len(rows) <= 3
    assert rows[0].split()[1:] == ["123.457", "100.1", "to", "145.7", PROTOCOL.stamp]
    assert max(map(len, rows)) <= 80


def test_a_comparison_keeps_names_whole_at_80_columns(tmp_path: Path) -> None:
    names = ("fid50k_full_efflite0_bf16_truncated", "precision_recall/recall_efflite0")
    for file, value in (("one", 123.4567), ("other", 234.5678)):
        score = Score(value, PROTOCOL, noise=Interval(value - 1.2345, value + 1.2345, 0.6))
        (tmp_path / f"{file}.json").write_text(json.dumps({f"eval/{name}": score.as_json() for name in names}))
    console = Console(width=80, file=io.StringIO())
    console.print(compare(tmp_path / "one.json", tmp_path / "other.json"))
    lines = console.file.getvalue().splitlines()
    for name in names:
        row = next(line for line in lines if line.startswith(name))
        assert row.split()[1:] == ["123.46", "±", "1.2", "234.57", "±", "1.2", "+111"]
    assert [line.split() for line in lines].count(["first", "is", "better", "protocol", PROTOCOL.stamp]) == len(names)
    assert max(map(len, lines[2:])) <= 80


def test_the_facts_of_a_dataset_are_never_cut(
    bigtrain: Command, tiny_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.console, "_width", 60)
    code, out, _ = bigtrain("data", "info", str(tiny_shards))
    assert code == 0
    digest = json.loads(bigtrain("data", "info", str(tiny_shards), "--json")[1])["digest"]
    assert digest in "".join(out.split())


@pytest.mark.parametrize(
    "words", [["doctor"], ["data", "info", "@"], ["weights", "list"], ["config", "show", TINY]], ids=" ".join
)
def test_a_command_prints_json_too(bigtrain: Command, tiny_shards: Path, words: list[str]) -> None:
    words = [str(tiny_shards) if word == "@" else word for word in words]
    code, out, err = bigtrain(*words, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)
    assert "\x1b" not in bigtrain(*words)[1]


def test_faults_and_parameters_are_printed_as_json(bigtrain: Command, tiny_shards: Path) -> None:
    assert bigtrain("data", "verify", str(tiny_shards), "--json")[:2] == (0, "[]\n")
    (tiny_shards / "shard-000001.tar").unlink()
    code, out, _ = bigtrain("data", "verify", str(tiny_shards), "--json")
    assert code == 1
    assert [fault["file"] for fault in json.loads(out)] == ["shard-000001.tar"]
    found = json.loads(bigtrain("config", "show", TINY, "--params", "--json")[1])
    assert {name: network["kind"] for name, network in found.items()} == {"G": "biggan", "D": "biggan"}


def test_words_are_completed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_BIGTRAIN_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "bigtrain hea")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit):
        app(prog_name="bigtrain")
    assert capsys.readouterr().out.strip() == "health"

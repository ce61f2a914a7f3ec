"""Samples of networks that are conditioned on a vector: given or drawn, still or moving."""

import shlex
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bigtrain import cli
from bigtrain.core.config import parse_config
from bigtrain.core.quantise import to_uint8
from bigtrain.generate.snapshot import Snapshot, SnapshotError, load_snapshot, save_snapshot
from bigtrain.generate.walks import turn, walk
from tests.task_training import TASKS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot of untrained networks that see objects from cameras."""
    torch.manual_seed(0)
    schema, config, fields = TASKS["views"]
    parsed = parse_config(schema, config, source="test")
    specs = parsed.networks(fields)
    place = tmp_path_factory.mktemp("views")
    networks = {"G": specs["G"].build()}
    sampler = parsed.build_sampler(fields, {})
    save_snapshot(place, networks, specs, sampler, averaged=["G"], class_names=(), facts={})
    return place


@pytest.fixture
def snapshot(folder: Path) -> Snapshot:
    return load_snapshot(folder)


def test_a_given_condition_is_that_of_all_seeds(snapshot: Snapshot) -> None:
    drawn, given = snapshot.sample(range(3)), snapshot.sample(range(3), condition=[0.4, -0.2])
    assert drawn.shape == given.shape == (3, 3, 16, 16)
    assert (drawn - given).abs().max() > 1e-3
    assert torch.equal(snapshot.sample([2], condition=[0.4, -0.2]), given[2:])


def test_a_turn_passes_its_conditions_and_closes(snapshot: Snapshot) -> None:
    stations = [[-0.8, 0.1], [0.8, 0.3]]
    frames = list(turn(snapshot, [3, 8], stations, frames=4))
    assert len(frames) == 8
    for place, condition in {0: stations[0], 4: stations[1]}.items():
        own = to_uint8(snapshot.sample([3, 8], condition=condition))
        assert (frames[place].int() - own.int()).abs().max() <= 1
    assert torch.equal(frames[2], frames[6]), "there and back"


def test_a_walk_moves_the_condition_with_the_latent(snapshot: Snapshot) -> None:
    images = list(walk(snapshot, [3, 8], [0, 0], frames=2))
    for place, seed in {0: 3, 2: 8}.items():
        assert (images[place].int() - to_uint8(snapshot.sample([seed]))[0].int()).abs().max() <= 1


@pytest.mark.parametrize(
    "words",
    [
        "sample --out a.png --seeds 0-3 --condition -0.5,0.2",
        "interpolate --kind turn --out b.gif --seeds 0-3 --conditions '-0.5,0 0.5,0' --frames 2",
    ],
)
def test_the_commands_take_conditions(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    command, *options = shlex.split(words)
    result = CliRunner().invoke(cli.app, [command, str(folder), *options])
    assert result.exit_code == 0, result.output
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sample --out a.png --condition 0.5", "condition: 'pose' has 2 numbers, not 1"),
        ("sample --out a.png --condition left", "condition 'left': write numbers like 0,0.5,1"),
        ("interpolate --out a.gif --kind turn", "--kind turn needs --conditions, two or more"),
    ],
)
def test_a_mistake_is_one_line(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    command, *options = shlex.split(words)
    monkeypatch.setattr("sys.argv", ["bigtrain", command, str(folder), *options])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert said in told
    assert told.count("\n") == 1


def test_a_class_is_no_vector(snapshot: Snapshot) -> None:
    with pytest.raises(SnapshotError, match="class 1: this generator has 0 classes"):
        snapshot.sample([0], [1])

"""The trial scheduler without Ray: the test reports the scores of the trials."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from bigtrain.checkpoint.folders import CheckpointFolder, hashes_of
from bigtrain.config import load_training
from bigtrain.core.state import Progress
from bigtrain.sweep.exploit import copy_checkpoint
from bigtrain.sweep.page import importance_chart, write_page
from bigtrain.sweep.results import pareto_front, rank_settings, summary, write_results
from bigtrain.sweep.sweep import Sweep, reopen_sweep
from bigtrain.sweep.table import remove_stopped_checkpoints, table
from bigtrain.sweep.trial_scheduler import TrialScheduler
from tests.unit.sweep.test_config import opened

END = 3200


def scored(samples_seen: int, value: float, error: float = 0.1) -> dict[str, Any]:
    facts = {"value": value, "error": error, "img_per_s": 100.0, "higher_is_better": False}
    return {"samples_seen": samples_seen, **facts}


def number_of(spec: str) -> int:
    return int(json.loads(Path(spec).read_text())["number"])


def finish(scheduler: TrialScheduler, number: int, value: float) -> None:
    scheduler.on_result(number, [scored(END, value)])
    scheduler.on_end(number, "complete")


def test_the_base_comes_first_and_the_best_come_again(tmp_path: Path, fashion: Path) -> None:
    sweep = opened(tmp_path, fashion, budget={"trials": 3}, finalists={"count": 1, "seeds": [0, 7]})
    scheduler = TrialScheduler(sweep)
    played = {}
    for value in (30.0, 20.0, 40.0):
        number = number_of(scheduler.next_trial())
        played[number] = value
        finish(scheduler, number, value)
    assert list(played) == [0, 1, 2]
    assert scheduler.trials[0].point == {}
    again = [number_of(scheduler.next_trial()) for _ in range(2)]  # not with the seed that they have had
    assert [(scheduler.trials[n].repeats, scheduler.trials[n].seed) for n in again] == [(0, 7), (1, 7)]
    assert scheduler.next_trial() == "wait"
    finish(scheduler, again[0], 31.0)
    finish(scheduler, again[1], 21.0)
    assert scheduler.next_trial() == "finished"
    ranked = write_results(sweep, scheduler.trials, scheduler.direction)
    assert [one.trial.number for one in ranked] == [1, 0, 2]
    assert summary(ranked, scheduler.direction) == (
        "the best is trial-001, 20.50 ± 0.98 over 2 seeds: better than the base config, 30.50 ± 0.98 over 2 seeds"
    )
    winner = load_training(sweep.folder / "winner.yaml")
    assert winner.optim["G"].lr.value == scheduler.trials[1].point["optim.G.lr.value"]
    assert winner.tracking.parent is None
    rows = (sweep.folder / "results.csv").read_text().splitlines()
    assert len(rows) == 6
    assert rows[0].startswith("trial,state,repeats,seed,kimg,fid,low,high,img_per_s,rank,pareto,optim.G.lr.value")


def test_a_resume_goes_on_where_it_was(tmp_path: Path, fashion: Path) -> None:
    asha = {"kind": "asha", "grace_kimg": 0.8, "reduction": 2}
    first = TrialScheduler(opened(tmp_path, fashion, scheduler=asha))
    for value in (30.0, 20.0):
        number = number_of(first.next_trial())
        assert first.on_result(number, [scored(800, value)]) == "continue"
    finish(first, 0, 25.0)
    third = number_of(first.next_trial())
    assert first.on_result(third, [scored(800, 90.0)]) == "stop"
    point = first.trials[1].point
    with (first.sweep.folder / "events.jsonl").open("a") as file:
        file.write('{"event": "score", "numb')  # the driver is killed as it writes

    again = TrialScheduler(reopen_sweep(first.sweep.folder, None))
    assert {n: trial.state for n, trial in again.trials.items()} == {0: "complete", 1: "waiting", 2: "stopped"}
    assert number_of(again.next_trial()) == 1  # the one that was on its way
    assert again.trials[1].point == point
    again.on_result(1, [scored(800, 20.0), scored(1600, 18.0)])  # its spool tells everything once more
    assert list(again.trials[1].scores) == [800, 1600]
    assert number_of(again.next_trial()) == 3
    assert TrialScheduler(again.sweep).trials.keys() == {0, 1, 2, 3}


def test_optuna_looks_where_scores_are_good(tmp_path: Path, fashion: Path) -> None:
    space = {"optim.G.beta1": {"kind": "uniform", "low": 0.0, "high": 0.9}}
    searcher = {"kind": "optuna", "startup": 6}
    sweep = opened(tmp_path, fashion, presets=[], space=space, searcher=searcher, budget={"trials": 24})
    scheduler = TrialScheduler(sweep)
    tried = []
    while (spec := scheduler.next_trial()) != "finished":
        number = number_of(spec)
        beta = float(scheduler.trials[number].point.get("optim.G.beta1", 0.0))  # type: ignore[arg-type]
        tried.append(beta)
        finish(scheduler, number, 100 * (beta - 0.6) ** 2)
    assert sum(abs(beta - 0.6) < 0.15 for beta in tried[7:]) >= 9  # by chance it would be about 6 of 17
    chart = importance_chart(sweep, scheduler.trials, scheduler.direction)
    assert chart is not None
    (bars,) = chart.data
    assert (list(bars.y), list(bars.x)) == (["G.beta1"], [pytest.approx(1.0)])


def test_optuna_looks_for_a_front_of_two_objectives(tmp_path: Path, fashion: Path) -> None:
    searcher = {"kind": "optuna", "objectives": ["score", "speed"], "startup": 2}
    sweep = opened(tmp_path, fashion, searcher=searcher, budget={"trials": 6})
    scheduler = TrialScheduler(sweep)
    for value, speed in ((30.0, 100.0), (20.0, 50.0), (25.0, 120.0), (40.0, 40.0), (50.0, 200.0), (22.0, 45.0)):
        number = number_of(scheduler.next_trial())
        scheduler.on_result(number, [{**scored(END, value), "img_per_s": speed}])
        scheduler.on_end(number, "complete")
    assert [trial.number for trial in pareto_front(scheduler.trials, scheduler.direction)] == [1, 2, 4]


def test_the_page_and_the_table_show_every_trial(tmp_path: Path, fashion: Path) -> None:
    name = "<img src=x onerror=alert(1)>"  # a page shows a stranger's name as text
    sweep = opened(tmp_path, fashion, budget={"trials": 5}, sweep_dir=str(tmp_path / name))
    scheduler = TrialScheduler(sweep)
    for value in (30.0, 20.0, float("nan"), 25.0, 21.0):
        finish(scheduler, number_of(scheduler.next_trial()), value)
    page = write_page(scheduler.sweep, scheduler.trials, scheduler.direction).read_text()
    assert page.count("Plotly.newPlot") == 3
    assert name not in page and "<h1>&lt;img src=x onerror=alert(1)&gt;</h1>" in page
    shown = table(scheduler.sweep, scheduler.trials, scheduler.direction)
    assert shown.row_count == 5
    assert rank_settings(scheduler.trials, scheduler.direction)[-1].trial.number == 2


def leave_checkpoint(run: Path, samples_seen: int, content: bytes) -> None:
    folder, progress = CheckpointFolder(run / "checkpoints"), Progress(END, 16)
    progress.samples_seen = samples_seen
    path = folder.name(progress)
    partial = folder.begin(path)
    (partial / "shard-00001.safetensors").write_bytes(content)
    facts = {"format": "bigtrain-checkpoint/2", "samples_seen": samples_seen, "healthy": True, "best": False}
    folder.commit(path, {**facts, "files": hashes_of([partial / "shard-00001.safetensors"])})


def weights(run: Path) -> bytes:
    (file,) = (run / "checkpoints").glob("kimg*[0-9]/*.safetensors")
    return file.read_bytes()


def population(tmp_path: Path, fashion: Path) -> Sweep:
    pbt = {"kind": "pbt", "interval_kimg": 0.8, "evaluations": 1}
    return opened(tmp_path, fashion, scheduler=pbt)


def play(scheduler: TrialScheduler, values: list[float], at: int) -> None:
    """Let all trials come to a boundary; the last one closes the generation."""
    for number, value in enumerate(values):
        leave_checkpoint(scheduler.sweep.folder / scheduler.trials[number].name, at, f"weights of {number}".encode())
        assert scheduler.on_result(number, [scored(at, value)], at_boundary=True) == "pause"


def test_pbt_copies_the_best_and_moves_its_numbers(tmp_path: Path, fashion: Path) -> None:
    sweep = population(tmp_path, fashion)
    scheduler = TrialScheduler(sweep)
    specs = [scheduler.next_trial() for _ in range(4)]
    assert json.loads(Path(specs[3]).read_text())["stop_at_kimg"] == 0.8
    play(scheduler, [30.0, 20.0, 25.0, 90.0], 800)
    assert all(scheduler.may_resume(number) for number in range(4))
    (move,) = scheduler.events.generations[0]["moves"]
    assert (move["number"], move["donor"]) == (3, 1)
    assert weights(sweep.folder / "trial-003") == b"weights of 1"
    assert weights(sweep.folder / "trial-000") == b"weights of 0"
    donor, loser = scheduler.trials[1].point, scheduler.trials[3].point
    assert loser.keys() == donor.keys()
    assert loser != donor
    spec = json.loads(Path(specs[3]).read_text())
    assert spec["stop_at_kimg"] == 1.6
    config = load_training(spec["config"])
    assert config.optim["G"].lr.value == loser["optim.G.lr.value"]
    assert config.generator == sweep.base.generator
    assert "copied" in json.loads((sweep.folder / "generations" / "000.json").read_text())


def test_pbt_waits_until_all_are_at_rest(tmp_path: Path, fashion: Path) -> None:
    scheduler = TrialScheduler(population(tmp_path, fashion))
    for _ in range(4):
        scheduler.next_trial()
    assert scheduler.on_result(0, [scored(800, 20.0)]) == "continue"  # its ranks are still saving
    for number in (1, 2, 3):
        leave_checkpoint(scheduler.sweep.folder / scheduler.trials[number].name, 800, b"weights")
        scheduler.on_result(number, [scored(800, 90.0)], at_boundary=True)
    assert not scheduler.events.generations
    assert not any(scheduler.may_resume(number) for number in (1, 2, 3))
    scheduler.on_end(0, "failed", "once too often")  # nobody waits for it
    assert len(scheduler.events.generations) == 1


def test_pbt_is_told_the_mean_of_the_newest_scores(tmp_path: Path, fashion: Path) -> None:
    pbt = {"kind": "pbt", "interval_kimg": 0.8, "evaluations": 2}
    scheduler = TrialScheduler(opened(tmp_path, fashion, scheduler=pbt))
    for _ in range(4):
        scheduler.next_trial()
    for number, values in enumerate([(30.0, 24.0), (10.0, 40.0), (30.0, 30.0), (20.0, 90.0)]):
        leave_checkpoint(scheduler.sweep.folder / scheduler.trials[number].name, 800, b"weights")
        told = [scored(400 * (place + 1), value) for place, value in enumerate(values)]
        assert scheduler.on_result(number, told, at_boundary=True) == "pause"
    ((donor, receiver),) = [(move["donor"], move["number"]) for move in scheduler.events.generations[0]["moves"]]
    assert (donor, receiver) == (1, 3)  # trial 0 has the best last score


def test_hyperband_pauses_trials_and_a_resume_knows_which_of_them_wait(tmp_path: Path, fashion: Path) -> None:
    """Of 3.2 kimg and 5 trials: a bracket of 2, and one of 3 that halts after 1 kimg, of which one continues."""
    hyperband = {"kind": "ray", "name": "hyperband"}
    first = TrialScheduler(opened(tmp_path, fashion, scheduler=hyperband, budget={"trials": 5}))
    assert [number_of(first.next_trial()) for _ in range(5)] == list(range(5))
    finish(first, 0, 30.0)
    finish(first, 1, 20.0)
    assert [first.on_result(number, [scored(1600, value)]) for number, value in ((2, 50.0), (3, 40.0))] == ["pause"] * 2

    again = TrialScheduler(reopen_sweep(first.sweep.folder, None))
    assert [again.may_resume(number) for number in (2, 3, 4)] == [False, False, True]
    assert number_of(again.next_trial()) == 4
    assert again.next_trial() == "wait"
    again.on_start(4, "host")
    assert again.on_result(4, [scored(1600, 60.0)]) == "stop"
    states = {n: trial.state for n, trial in again.trials.items()}
    assert states == {0: "complete", 1: "complete", 2: "stopped", 3: "waiting", 4: "stopped"}
    assert again.trials[2].why == "Ray Tune's hyperband stops it, after it was paused"
    assert number_of(again.next_trial()) == 3
    finish(again, 3, 10.0)
    assert again.next_trial() == "finished"


def test_bohb_searches_while_trials_are_paused(tmp_path: Path, fashion: Path) -> None:
    """Of 3.2 kimg and 5 trials: a bracket of 3 that halts after 1 kimg, of which one continues, and one of 2."""
    bohb = {"kind": "ray", "name": "bohb" if importlib.util.find_spec("hpbandster") else "optuna"}
    settings = {"scheduler": {"kind": "ray", "name": "hb_bohb"}, "searcher": bohb, "budget": {"trials": 5}}
    first = TrialScheduler(opened(tmp_path, fashion, **settings))
    for value in (50.0, 40.0):
        number = number_of(first.next_trial())
        assert first.on_result(number, [scored(1600, value)]) == "pause"

    again = TrialScheduler(reopen_sweep(first.sweep.folder, None))
    assert [again.may_resume(number) for number in (0, 1)] == [False, False]
    assert [number_of(again.next_trial()) for _ in range(2)] == [2, 3]
    assert again.on_result(2, [scored(1600, 60.0)]) == "stop"
    assert [number_of(again.next_trial()) for _ in range(2)] == [1, 4]
    for number in (1, 3, 4):
        finish(again, number, 10.0 + number)
    assert again.next_trial() == "finished"
    states = {number: trial.state for number, trial in again.trials.items()}
    assert states == {0: "stopped", 1: "complete", 2: "stopped", 3: "complete", 4: "complete"}
    assert again.sweep.with_point(again.trials[4].point)


def test_pbt_finishes_a_copy_that_was_broken_off(tmp_path: Path, fashion: Path) -> None:
    sweep = population(tmp_path, fashion)
    scheduler = TrialScheduler(sweep)
    for _ in range(4):
        scheduler.next_trial()
    play(scheduler, [30.0, 20.0, 25.0, 90.0], 800)
    (sweep.folder / "generations" / "000.json").unlink()  # as if the driver had died before it was done
    (sweep.folder / "trial-003" / "checkpoints" / "kimg000000.800").rename(tmp_path / "gone")
    again = TrialScheduler(reopen_sweep(sweep.folder, None))
    assert weights(sweep.folder / "trial-003") == b"weights of 1"
    assert again.trials[3].point == scheduler.trials[3].point
    assert again.events.generations == scheduler.events.generations


def test_a_copy_outlives_its_donor(tmp_path: Path) -> None:
    leave_checkpoint(tmp_path / "donor", 800, b"good")
    leave_checkpoint(tmp_path / "receiver", 800, b"bad")
    copy_checkpoint(tmp_path / "donor", tmp_path / "receiver", 800)
    source = next((tmp_path / "donor").rglob("*.safetensors"))
    copy = next((tmp_path / "receiver").rglob("*.safetensors"))
    assert source.stat().st_ino == copy.stat().st_ino  # no second copy on disk
    source.unlink()
    assert weights(tmp_path / "receiver") == b"good"


def test_who_was_stopped_leaves_no_checkpoints(tmp_path: Path, fashion: Path) -> None:
    asha = {"kind": "asha", "grace_kimg": 0.8, "reduction": 2}
    scheduler = TrialScheduler(opened(tmp_path, fashion, scheduler=asha))
    for value in (20.0, 90.0):
        number = number_of(scheduler.next_trial())
        leave_checkpoint(scheduler.sweep.folder / scheduler.trials[number].name, 800, b"weights")
        scheduler.on_result(number, [scored(800, value)])
    remove_stopped_checkpoints(scheduler.sweep, scheduler.trials)
    assert (scheduler.sweep.folder / "trial-000" / "checkpoints").is_dir()
    assert not (scheduler.sweep.folder / "trial-001" / "checkpoints").exists()


def test_a_sweep_of_an_earlier_version_is_resumed(tmp_path: Path, fashion: Path) -> None:
    scheduler = TrialScheduler(opened(tmp_path, fashion))
    finish(scheduler, number_of(scheduler.next_trial()), 30.0)
    (scheduler.sweep.folder / "events.jsonl").rename(scheduler.sweep.folder / "journal.jsonl")
    again = TrialScheduler(reopen_sweep(scheduler.sweep.folder, None))
    assert again.trials[0].state == "complete"
    assert number_of(again.next_trial()) == 1
    assert not (scheduler.sweep.folder / "events.jsonl").exists()

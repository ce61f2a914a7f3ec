"""Results of a sweep: ranks settings over their seeds, and writes a table and the winner's config."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigtrain.core.config import dump_yaml
from bigtrain.sweep.event_log import Trial, read_events
from bigtrain.sweep.metric import Direction, TrialScore, mean_score
from bigtrain.sweep.sweep import Sweep
from data_pipelines.files import atomic_write

RESULTS, WINNER = "results.csv", "winner.yaml"


@dataclass(frozen=True)
class RankedSetting:
    """A setting with its mean score.

    Attributes:
        trial: the trial of the search.
        runs: the trial and its repetitions with other seeds, of which only complete ones are included.
        score: mean of these runs' last scores.
    """

    trial: Trial
    runs: tuple[Trial, ...]
    score: TrialScore


def finalists(trials: Mapping[int, Trial], direction: Direction, count: int) -> list[int]:
    """Return the numbers of the trials to repeat with other seeds: the base config, and the best complete ones."""
    complete = [trial for trial in trials.values() if trial.state == "complete" and trial.last is not None]
    ranked = sorted(complete, key=lambda trial: direction.key(_last(trial)))
    chosen = [trial.number for trial in ranked if trial.number][:count]
    return [*([0] if 0 in {trial.number for trial in complete} else []), *chosen]


def rank_settings(trials: Mapping[int, Trial], direction: Direction) -> list[RankedSetting]:
    """Return all settings that were trained to the end, the best first.

    Settings that were repeated with other seeds rank before the others, so that one fortunate seed does not win.
    """
    found = []
    for trial in trials.values():
        runs = [one for one in trials.values() if trial.number in (one.number, one.repeats) and one.state == "complete"]
        runs = [one for one in runs if one.last is not None]
        if trial.repeats is None and trial in runs:
            found.append(RankedSetting(trial, tuple(runs), mean_score([_last(run) for run in runs])))
    most = max((len(one.runs) for one in found), default=0)
    return sorted(found, key=lambda one: (len(one.runs) < most, direction.key(one.score)))


def summary(ranked: Sequence[RankedSetting], direction: Direction) -> str:
    """Return a sentence that compares the best setting with the base config."""
    if not ranked:
        return "no trial was trained to the end"
    winner = ranked[0]
    text = f"{winner.trial.name}, {format_score(winner.score)} over {_seeds(winner)}"
    base = next((one for one in ranked if one.trial.number == 0), None)
    if base is None:
        return f"the best is {text}"
    if winner is base:
        return f"nothing was better than the base config: {text}"
    how = "better than" if direction.beats(winner.score, base.score) else "not better, beyond the noise, than"
    return f"the best is {text}: {how} the base config, {format_score(base.score)} over {_seeds(base)}"


def format_score(scored: TrialScore) -> str:
    """Return a score and its 95 % interval as text."""
    return f"{scored.value:.2f} ± {1.96 * scored.error:.2f}"


def write_results(sweep: Sweep, trials: Mapping[int, Trial], direction: Direction) -> list[RankedSetting]:
    """Write the table of all trials and the winner's config for `bigtrain train`; return the ranked settings."""
    ranked = rank_settings(trials, direction)
    rows = table_rows(sweep, trials, direction)
    with (sweep.folder / RESULTS).open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]) if rows else [])
        table.writeheader()
        table.writerows(rows)
    if ranked:
        winner = ranked[0].trial
        config = sweep.training(winner)
        tracking = config.tracking.model_copy(update={"parent": None, "name": None})
        folder = f"{sweep.config.sweep_dir.rstrip('/')}-winner"
        config = config.model_copy(update={"run_dir": folder, "tracking": tracking})
        about = f"# The winner of the sweep {sweep.folder}: {summary(ranked, direction)}.\n#\n"
        command = f"#   bigtrain train {sweep.folder / WINNER} --nproc {sweep.config.trial.nproc}\n"
        with atomic_write(sweep.folder / WINNER) as output:
            output.write(f"{about}{command}{dump_yaml(config)}".encode())
    return ranked


def table_rows(sweep: Sweep, trials: Mapping[int, Trial], direction: Direction) -> list[dict[str, Any]]:
    """Return a row for each trial, by the names of the columns; None where there is no value."""
    places = {one.trial.number: place for place, one in enumerate(rank_settings(trials, direction), 1)}
    front = {trial.number for trial in pareto_front(trials, direction)}
    keys, base = [key for key in sweep.space.parameters if key in sweep.space.varying], sweep.space.base_point()
    rows = []
    for number, trial in sorted(trials.items()):
        row: dict[str, Any] = {"trial": number, "state": trial.state, "repeats": trial.repeats, "seed": trial.seed}
        row |= dict.fromkeys(("kimg", sweep.metric.name, "low", "high", "img_per_s"))
        if (last := trial.last) is not None:
            ends = (last.value - 1.96 * last.error, last.value + 1.96 * last.error)
            scored = (last.kimg, last.value, *ends, last.img_per_s)
            row |= zip(list(row)[4:], [float(f"{one:.6g}") for one in scored], strict=True)
        row |= {"rank": places.get(number), "pareto": number in front}
        rows.append({**row, **{key: {**base, **trial.point}.get(key) for key in keys}, "why": trial.why})
    return rows


def pareto_front(trials: Mapping[int, Trial], direction: Direction) -> list[Trial]:
    """Return the complete trials of the search that no other trial exceeds in both score and speed."""
    complete = [
        trial for trial in trials.values() if trial.state == "complete" and trial.repeats is None and trial.last
    ]
    return [
        trial
        for trial in complete
        if not any(
            direction.key(_last(other)) < direction.key(_last(trial))
            and _last(other).img_per_s > _last(trial).img_per_s
            for other in complete
        )
    ]


def best_so_far(trials: Mapping[int, Trial], direction: Direction, folder: Path) -> list[tuple[int, int, float]]:
    """Return the best score of the search over time.

    Returns:
        Points (images seen by all trials together, time in ms, best score so far).
    """
    seen: dict[int, int] = {}
    best: TrialScore | None = None
    points = []
    for event in read_events(folder):
        if event["event"] == "score" and trials[event["number"]].repeats is None:
            seen[event["number"]] = event["samples_seen"]
            scored = TrialScore(event["samples_seen"], event["value"], event["error"])
            if best is None or direction.key(scored) < direction.key(best):
                best = scored
            points.append((sum(seen.values()), int(event["time_ms"]), best.value))
    return points


def _last(trial: Trial) -> TrialScore:
    assert trial.last is not None
    return trial.last


def _seeds(setting: RankedSetting) -> str:
    count = len(setting.runs)
    return f"{count} seed{'s' * (count > 1)}"

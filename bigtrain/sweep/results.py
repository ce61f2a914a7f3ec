"""Who has won: ranks settings over their seeds, and leaves a table and the winner's config."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bigtrain.core.config import dump_yaml
from bigtrain.sweep.journal import Trial, read_events
from bigtrain.sweep.metric import Order, Scored, mean_of
from bigtrain.sweep.sweep import Sweep
from data_pipelines.files import atomic_write

RESULTS, WINNER = "results.csv", "winner.yaml"


@dataclass(frozen=True)
class Standing:
    """How a setting did.

    Attributes:
        trial: of the search.
        runs: that trial and its repetitions, as far as they are complete.
        score: mean over these runs' last scores.
    """

    trial: Trial
    runs: tuple[Trial, ...]
    score: Scored


def finalists(trials: Mapping[int, Trial], order: Order, count: int) -> list[int]:
    """Return the best complete trials and the base config's, which is the first: what is run again from other seeds."""
    complete = [trial for trial in trials.values() if trial.state == "complete" and trial.last is not None]
    ranked = sorted(complete, key=lambda trial: order.key(_last(trial)))
    chosen = [trial.number for trial in ranked if trial.number][:count]
    return [*([0] if 0 in {trial.number for trial in complete} else []), *chosen]


def standings(trials: Mapping[int, Trial], order: Order) -> list[Standing]:
    """Return all settings that were trained to the end, the best first.

    Those that were run from other seeds too come before the others: one lucky seed does not win.
    """
    found = []
    for trial in trials.values():
        runs = [one for one in trials.values() if trial.number in (one.number, one.repeats) and one.state == "complete"]
        runs = [one for one in runs if one.last is not None]
        if trial.repeats is None and trial in runs:
            found.append(Standing(trial, tuple(runs), mean_of([_last(run) for run in runs])))
    most = max((len(one.runs) for one in found), default=0)
    return sorted(found, key=lambda one: (len(one.runs) < most, order.key(one.score)))


def verdict(ranked: Sequence[Standing], order: Order) -> str:
    """Say in a sentence how the winner stands to the base config."""
    if not ranked:
        return "no trial was trained to the end"
    winner = ranked[0]
    told = f"{winner.trial.name}, {in_words(winner.score)} over {_seeds(winner)}"
    base = next((one for one in ranked if one.trial.number == 0), None)
    if base is None:
        return f"the best is {told}"
    if winner is base:
        return f"nothing was better than the base config: {told}"
    how = "better than" if order.beats(winner.score, base.score) else "not better, beyond the noise, than"
    return f"the best is {told}: {how} the base config, {in_words(base.score)} over {_seeds(base)}"


def in_words(scored: Scored) -> str:
    """Return a score for a person."""
    return f"{scored.value:.2f} ± {1.96 * scored.error:.2f}"


def write_results(sweep: Sweep, trials: Mapping[int, Trial], order: Order) -> list[Standing]:
    """Write the table of all trials, and the winner's config, ready for `bigtrain train`; return the standings."""
    ranked = standings(trials, order)
    places = {one.trial.number: place for place, one in enumerate(ranked, 1)}
    keys = [key for key in sweep.space.parameters if key in sweep.space.varying]
    base = sweep.space.base_point()
    front = {trial.number for trial in pareto(trials, order)}
    with (sweep.folder / RESULTS).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        columns = ["trial", "state", "repeats", "seed", "kimg", sweep.metric.name, "low", "high", "img_per_s"]
        table.writerow([*columns, "rank", "pareto", *keys, "why"])
        for number, trial in sorted(trials.items()):
            last, point = trial.last, {**base, **trial.point}
            scored = ["", "", "", "", ""]
            if last is not None:
                ends = (last.value - 1.96 * last.error, last.value + 1.96 * last.error)
                scored = [f"{x:.6g}" for x in (last.kimg, last.value, *ends, last.img_per_s)]
            repeats = "" if trial.repeats is None else trial.repeats
            table.writerow(
                [number, trial.state, repeats, trial.seed, *scored, places.get(number, ""), number in front]
                + [point.get(key, "") for key in keys]
                + [trial.why]
            )
    if ranked:
        winner = ranked[0].trial
        config = sweep.training(winner)
        tracking = config.tracking.model_copy(update={"parent": None, "name": None})
        folder = f"{sweep.config.sweep_dir.rstrip('/')}-winner"
        config = config.model_copy(update={"run_dir": folder, "tracking": tracking})
        about = f"# The winner of the sweep {sweep.folder}: {verdict(ranked, order)}.\n#\n"
        command = f"#   bigtrain train {sweep.folder / WINNER} --nproc {sweep.config.trial.nproc}\n"
        with atomic_write(sweep.folder / WINNER) as output:
            output.write(f"{about}{command}{dump_yaml(config)}".encode())
    return ranked


def pareto(trials: Mapping[int, Trial], order: Order) -> list[Trial]:
    """Return the complete trials of the search that no other one beats in both score and speed."""
    complete = [
        trial for trial in trials.values() if trial.state == "complete" and trial.repeats is None and trial.last
    ]
    return [
        trial
        for trial in complete
        if not any(
            order.key(_last(other)) < order.key(_last(trial)) and _last(other).img_per_s > _last(trial).img_per_s
            for other in complete
        )
    ]


def best_so_far(trials: Mapping[int, Trial], order: Order, folder: Path) -> list[tuple[int, int, float]]:
    """Return how the best score of the search fell.

    Returns:
        Points (images that all trials together had seen, time in ms, best score).
    """
    seen: dict[int, int] = {}
    best: Scored | None = None
    points = []
    for event in read_events(folder):
        if event["event"] == "score" and trials[event["number"]].repeats is None:
            seen[event["number"]] = event["samples_seen"]
            scored = Scored(event["samples_seen"], event["value"], event["error"])
            if best is None or order.key(scored) < order.key(best):
                best = scored
            points.append((sum(seen.values()), int(event["time_ms"]), best.value))
    return points


def _last(trial: Trial) -> Scored:
    assert trial.last is not None
    return trial.last


def _seeds(standing: Standing) -> str:
    count = len(standing.runs)
    return f"{count} seed{'s' * (count > 1)}"

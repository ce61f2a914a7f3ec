"""Report a sweep on the parent MLflow run of its trials: `python -m bigtrain.sweep.publish FOLDER`.

It runs as a separate process, which may be killed and started again at any time; a second report replaces the first.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException

from bigtrain.sweep.event_log import SweepEventLog
from bigtrain.sweep.page import PAGE, write_page
from bigtrain.sweep.results import RESULTS, WINNER, RankedSetting, best_so_far, summary, table_rows, write_results
from bigtrain.sweep.sweep import read_sweep
from bigtrain.tracking.mlflow import describe_failure
from bigtrain.tracking.registry import CHAMPION
from data_pipelines.secrets import print_line

_CHUNK = 1000
_TEXT = 5000
"""Characters that MLflow takes in a tag."""
_WINNERS = 3


def publish(folder: Path) -> str | None:
    """Report the current state of a sweep.

    Args:
        folder: folder of the sweep.

    Returns:
        The id of the parent run; None as long as no trial has been reported.
    """
    sweep, events = read_sweep(folder), SweepEventLog(folder)
    trials, direction = events.trials, events.direction
    ranked = write_results(sweep, trials, direction)
    write_page(sweep, trials, direction)
    children = {number: child for number, trial in trials.items() if (child := _child(folder / trial.name))}
    if not children:
        return None
    uri = next(iter(children.values()))["uri"]
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri)
    parent = _parent_of(client, children)
    if parent is None:
        return None
    points = best_so_far(trials, direction, folder)
    metrics = [Metric(f"sweep/best_{sweep.metric.name}", best, time_ms, seen) for seen, time_ms, best in points]
    for start in range(0, len(metrics), _CHUNK):
        client.log_batch(parent, metrics=metrics[start : start + _CHUNK])
    done = sum(trial.ended for trial in trials.values())
    tags = {
        "sweep.folder": str(folder.resolve()),
        "sweep.trials": f"{done} of {len(trials)} ended",
        "sweep.verdict": summary(ranked, direction),
        "mlflow.note.content": f"**{summary(ranked, direction)}**\n\nFolder: `{folder.resolve()}`. "
        f"*Artifacts*: `{PAGE}` (best so far, parallel coordinates, importance), `{RESULTS}`, `{WINNER}`; "
        f"*Model metrics*: winners' grids.",
    }
    client.log_batch(parent, tags=[RunTag(key, text[:_TEXT]) for key, text in tags.items()])
    for name in ("sweep.yaml", "base.yaml", PAGE, RESULTS, WINNER):
        if (folder / name).is_file():
            client.log_artifact(parent, str(folder / name))
    _log_table(client, parent, table_rows(sweep, trials, direction))
    for place, setting in enumerate(ranked[:_WINNERS], 1):
        _log_grid(client, parent, folder / setting.trial.name, f"winners/{place}_{setting.trial.name}")
    if sweep.config.champion and ranked:
        _alias_winner(client, ranked[0], children)
    client.set_terminated(parent, "FINISHED")  # its duration is the time to this report
    return parent


def _child(run: Path) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads((run / "mlflow.json").read_text())
    except (OSError, ValueError):
        return None
    return state if state.get("run_id") else None


def _parent_of(client: MlflowClient, children: Mapping[int, dict[str, Any]]) -> str | None:
    for child in children.values():
        try:
            parent = client.get_run(child["run_id"]).data.tags.get("mlflow.parentRunId")
        except MlflowException:
            continue
        if parent:
            return str(parent)
    return None


def _log_table(client: MlflowClient, run_id: str, rows: list[dict[str, Any]]) -> None:
    """Log the table in MLflow's format, in place of the previous one; MLflow's own `log_table` appends."""
    table = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
    client.log_dict(run_id, table, "trials.json")
    logged = json.dumps([{"path": "trials.json", "type": "table"}])
    client.set_tag(run_id, "mlflow.loggedArtifacts", logged)


def _log_grid(client: MlflowClient, parent: str, run: Path, key: str) -> None:
    grids = sorted((run / "images" / "samples").glob("fakes-*.png"))
    if grids:
        client.log_artifact(parent, str(grids[-1]), key)


def _alias_winner(client: MlflowClient, winner: RankedSetting, children: Mapping[int, dict[str, Any]]) -> None:
    """Give the alias `champion` to the newest registered model of the winner's runs."""
    for run in winner.runs:
        if run.number not in children:
            continue
        versions = client.search_model_versions(f"run_id = '{children[run.number]['run_id']}'")
        if versions:
            newest = max(versions, key=lambda one: int(one.version))
            client.set_registered_model_alias(newest.name, CHAMPION, newest.version)
            return


def main() -> None:
    """Report once; retry if the server does not answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for wait in (2.0, 10.0, 0.0):
        try:
            publish(folder)
            return
        except Exception as error:  # whatever MLflow, its server or its database raise, the sweep goes on
            text = describe_failure(error)
            time.sleep(wait)
    print_line(f"MLflow did not accept the sweep ({text}); send it with: python -m bigtrain.sweep.publish {folder}")
    sys.exit(1)


if __name__ == "__main__":
    main()

"""The process that copies a run's spool to MLflow: `python -m bigtrain.tracking.sender RUN [--follow PID]`.

It reads the spool from where it last stopped, so it can be killed at any time and run again. Nothing that happens to
it or to the server reaches the training process.
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from bigtrain.tracking.spool import FILE_NAME, WATCH_NAME, read_records
from data_pipelines.files import write_json

_POLL_SECONDS = 1.0
_RETRY_SECONDS = 15.0
STATE_FILE = "mlflow.json"
WATCH_STATE_FILE = "watch.mlflow.json"


def send_watched(folder: Path, *, uri: str | None = None) -> bool:
    """Send what a second job has scored into the run's own MLflow run.

    Args:
        folder: the run folder.
        uri: the server; None for the run's.

    Returns:
        Whether all was sent; False as long as the run itself has not been sent anywhere.
    """
    from bigtrain.tracking.mlflow import MlflowRun, describe_failure

    run, state = _load_state(folder), _load_state(folder, WATCH_STATE_FILE)
    pending = list(read_records(folder / WATCH_NAME, int(state.get("offset", 0))))
    if not pending:
        return True
    if not run.get("run_id"):
        return False
    uri = uri or run["uri"]
    try:
        MlflowRun(uri, run["experiment"], folder, run["run_id"], guest=True).send([record for record, _ in pending])
    except Exception as error:  # as below: nothing that MLflow raises may reach who scores
        _say(f"MLflow at {uri} does not answer ({describe_failure(error)}): send it later with: bigtrain sync {folder}")
        return False
    write_json(folder / WATCH_STATE_FILE, {"offset": pending[-1][1]})
    return True


def send_run(folder: Path, *, uri: str | None, experiment: str | None, follow: int | None = None) -> bool:
    """Send everything in the spool of `folder`.

    Args:
        folder: the run folder.
        uri: the server; None for the one used before, or the default.
        experiment: likewise.
        follow: go on until this process has ended and the spool is sent; None to send what is there and return.

    Returns:
        Whether all was sent.
    """
    from bigtrain.tracking.mlflow import MlflowRun, default_uri, describe_failure  # it takes seconds to import

    state = _load_state(folder)
    uri = uri or state.get("uri") or default_uri(folder)
    experiment = experiment or state.get("experiment") or "bigtrain"
    offset, run_id = int(state.get("offset", 0)), state.get("run_id")
    run: MlflowRun | None = None
    warned = False
    while True:
        finished = follow is not None and not _alive(follow)
        pending = list(read_records(folder / FILE_NAME, offset))
        ended = bool(pending) and pending[-1][0]["kind"] == "end"
        try:
            if run is None and (pending or not finished):
                run = MlflowRun(uri, experiment, folder, run_id)
                run_id = run.run_id
            if run is not None and pending:
                run.send([record for record, _ in pending])
                offset = pending[-1][1]
            if run is not None and finished and not ended:
                run.fail()
            write_json(folder / STATE_FILE, {"uri": uri, "experiment": experiment, "run_id": run_id, "offset": offset})
        except Exception as error:  # whatever MLflow, its server or its database raise, training goes on
            if not warned:
                _say(f"MLflow at {uri} does not answer ({describe_failure(error)}): training goes on, everything is")
                _say(f"kept in {folder / FILE_NAME}; send it later with: bigtrain sync {folder}")
                warned = True
            if follow is None or finished or ended:
                return False
            time.sleep(_RETRY_SECONDS)
            continue
        if ended or finished or follow is None:
            return True
        time.sleep(_POLL_SECONDS)


def _load_state(folder: Path, name: str = STATE_FILE) -> dict[str, Any]:
    path = folder / name
    state: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return state


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _say(text: str) -> None:
    print(f"bigtrain: {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Run the sender."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--follow", type=int)
    parser.add_argument("--uri")
    parser.add_argument("--experiment")
    parser.add_argument("--watched", action="store_true", help="send what a second job has scored")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if arguments.watched:
        sys.exit(0 if send_watched(arguments.folder) else 1)
    sys.exit(
        0
        if send_run(arguments.folder, uri=arguments.uri, experiment=arguments.experiment, follow=arguments.follow)
        else 1
    )


if __name__ == "__main__":
    main()

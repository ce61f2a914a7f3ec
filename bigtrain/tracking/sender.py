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

from bigtrain.tracking.spool import FILE_NAME, read_records
from data_pipelines.files import write_json
from data_pipelines.secrets import hide_secrets

_POLL_SECONDS = 1.0
_RETRY_SECONDS = 15.0
STATE_FILE = "mlflow.json"


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
    before = str(state.get("uri") or "")
    # A server's password is not written down: it is in the environment, or it was given by hand.
    uri = uri or (before if before and "***" not in before else default_uri(folder))
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
            write_json(
                folder / STATE_FILE,
                {"uri": hide_secrets(uri), "experiment": experiment, "run_id": run_id, "offset": offset},
            )
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


def _load_state(folder: Path) -> dict[str, Any]:
    path = folder / STATE_FILE
    state: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return state


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _say(text: str) -> None:
    print(f"bigtrain: {hide_secrets(text)}", file=sys.stderr, flush=True)


def main() -> None:
    """Run the sender."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--follow", type=int)
    parser.add_argument("--uri")
    parser.add_argument("--experiment")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # it ends with the process that it follows, when all is sent
    sys.exit(
        0
        if send_run(arguments.folder, uri=arguments.uri, experiment=arguments.experiment, follow=arguments.follow)
        else 1
    )


if __name__ == "__main__":
    main()

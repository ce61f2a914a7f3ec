"""Send records of the spool to MLflow. Only the sender's process imports this module, and with it MLflow."""

import fcntl
import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Before MLflow is imported: a dead server must fail a call in seconds, not minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.entities.dataset import Dataset
from PIL import Image

from bigtrain.tracking.registry import log_generator
from bigtrain.tracking.spool import Record

logging.getLogger("mlflow").setLevel(logging.ERROR)
warnings.simplefilter("ignore")  # MLflow gives advice on how to log models; nobody who trains can take it
logging.getLogger("alembic").setLevel(logging.ERROR)

_TAG_LENGTH = 5000


def default_uri(folder: Path) -> str:
    """Return $MLFLOW_TRACKING_URI, or the SQLite file beside the run folder `folder`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.resolve().parent / 'mlflow.db'}"


class MlflowRun:
    """One run on an MLflow server.

    Args:
        uri: the tracking server or database.
        experiment: name; made if missing.
        folder: the run folder, whose name becomes the run's.
        run_id: of the run to go on with; None makes a new one.
    """

    def __init__(self, uri: str, experiment: str, folder: Path, run_id: str | None) -> None:
        self._folder = folder
        root = folder.resolve().parent
        with (root / ".mlflow.lock").open("w") as lock:
            # Several runs that start together in an empty folder would each create the database.
            fcntl.flock(lock, fcntl.LOCK_EX)
            mlflow.set_tracking_uri(uri)
            self._client = MlflowClient(uri)
            found = self._client.get_experiment_by_name(experiment)
            if found is None:
                location = (root / "mlartifacts").as_uri() if uri.startswith("sqlite:") else None
                experiment_id = self._client.create_experiment(experiment, artifact_location=location)
            else:
                experiment_id = found.experiment_id
        if run_id is None:
            run_id = self._client.create_run(experiment_id, run_name=folder.name).info.run_id
        else:
            self._client.update_run(run_id, status="RUNNING")
        self.run_id: str = run_id

    def send(self, records: Sequence[Record]) -> None:
        """Send records in order; sending metrics twice stores them once."""
        points: list[Metric] = []
        for record in records:
            if record["kind"] == "metrics":
                points += [
                    Metric(name, value, record["time_ms"], record["samples_seen"])
                    for name, value in record["metrics"].items()
                ]
        for start in range(0, len(points), 1000):
            self._client.log_batch(self.run_id, metrics=points[start : start + 1000])
        for record in records:
            if record["kind"] != "metrics":
                getattr(self, f"_send_{record['kind']}")(record)

    def fail(self) -> None:
        """Say that the training process went away without a word; a resumed run says otherwise again."""
        self._client.set_terminated(self.run_id, status="FAILED")

    def _send_start(self, record: Record) -> None:
        known = self._client.get_run(self.run_id).data
        params = [Param(key, str(value)) for key, value in record["params"].items() if key not in known.params]
        tags = [RunTag(key, value) for key, value in record["tags"].items()]
        attempt = int(known.tags.get("bigtrain.attempt", "0")) + 1
        self._client.log_batch(self.run_id, params=params, tags=[*tags, RunTag("bigtrain.attempt", str(attempt))])
        if attempt == 1:
            data = record["dataset"]
            dataset = Dataset(
                name=data["name"],
                digest=data["digest"][:32],
                source_type="local",
                source=data["folder"],
                profile=data["profile"],
            )
            self._client.log_inputs(self.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def _send_image(self, record: Record) -> None:
        with Image.open(self._folder / record["file"]) as picture:
            self._client.log_image(
                self.run_id,
                np.asarray(picture.convert("RGB")),
                key=record["key"],
                step=record["samples_seen"],
                timestamp=record["time_ms"],
            )

    def _send_event(self, record: Record) -> None:
        text = f"kimg {record['samples_seen'] / 1000:g}: {record['text']}"
        self._client.set_tag(self.run_id, record["key"], text[:_TAG_LENGTH])

    def _send_rollback(self, record: Record) -> None:
        text = f"kimg {record['begun'] / 1000:g} -> {record['samples_seen'] / 1000:g}: {record['reason']}"
        self._client.set_tag(self.run_id, "health.rollback", text[:_TAG_LENGTH])

    def _send_artifact(self, record: Record) -> None:
        self._client.log_artifact(self.run_id, str(self._folder / record["file"]))

    def _send_model(self, record: Record) -> None:
        log_generator(self._client, self.run_id, self._folder, record)

    def _send_end(self, record: Record) -> None:
        self._client.set_terminated(self.run_id, status=record["status"])


def describe_failure(error: Exception) -> str:
    """Return the first line of an error, for one warning."""
    text: Any = str(error).strip() or type(error).__name__
    return str(text).splitlines()[0][:200]

"""Send records of the spool to MLflow. Only the sender's process imports this module, and with it MLflow."""

import fcntl
import json
import logging
import os
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import copyfile
from typing import Any, TypeVar

# Before MLflow is imported: a dead server must fail a call in seconds, not minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("PGCONNECT_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.entities.dataset import Dataset
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils as database

from bigtrain.tracking.refusals import RefusedError, http_status, storable, why_refused
from bigtrain.tracking.registry import log_generator
from bigtrain.tracking.spool import Record
from data_pipelines.files import confined_tree
from data_pipelines.pictures import OWN_FORMATS, ImageFileError, open_picture

logging.getLogger("mlflow").setLevel(logging.ERROR)
warnings.simplefilter("ignore")  # MLflow gives advice on how to log models; nobody who trains can take it
logging.getLogger("alembic").setLevel(logging.ERROR)
database.MAX_RETRY_COUNT = 2  # of ten attempts the last comes after minutes; the sender tries again by itself

_TEXT, _PARAM = 5000, 6000
"""Characters that MLflow takes in a tag and in a parameter."""
_METRICS, _PARAMS = 1000, 100
"""How many it takes in one call."""
_KEY, _GROUP = "bigtrain.spool", "bigtrain.group"
"""Tags by which runs are found again."""
_RACE_SECONDS = 2.0
"""In which others may make the same thing."""

_MODELS = {"mlflow.experimentKind": "custom_model_development"}
"""Tag by which MLflow 3 knows an experiment as one of model training, not of generative AI."""

ItemT = TypeVar("ItemT")


class RunDeletedError(Exception):
    """Somebody has deleted the run on the server."""


@dataclass(frozen=True)
class Target:
    """Where a run is kept on a server.

    Attributes:
        uri: the tracking server or database.
        experiment: name; made if missing.
        name: what people call the run.
        parent: name of the run that it is a part of; made if missing; None for none.
        key: tells this run from all others.
        started_ms: when it began.
    """

    uri: str
    experiment: str
    name: str
    parent: str | None
    key: str
    started_ms: int


class MlflowRun:
    """One run on an MLflow server. A record that is sent twice is there once.

    Args:
        target: where.
        folder: the run folder.
        run_id: as it was when last sent to this server; None to find the run by its key, or to make it.

    Attributes:
        run_id: of the run.
        experiment_id: of its experiment.
        is_new: whether the server knew nothing of it, so that everything must be sent.

    Raises:
        RunDeletedError: see there.
        RefusedError: MLflow will never take it.
    """

    def __init__(self, target: Target, folder: Path, run_id: str | None) -> None:
        self._folder, self._uri = folder, target.uri
        mlflow.set_tracking_uri(target.uri)
        self._client = MlflowClient(target.uri)
        with _alone_with_database(target.uri, folder):
            experiment = self._find_experiment(target)
            run = self._known_run(run_id) or self._find(experiment, _KEY, target.key)
            self.is_new = run is None
            if run is None:
                tags = {_KEY: target.key}
                if target.parent is not None:
                    tags["mlflow.parentRunId"] = self._parent(experiment, target)
                run = self._client.create_run(experiment, target.started_ms, tags, target.name)
        if run.info.lifecycle_stage == "deleted":
            raise RunDeletedError(run.info.run_id)
        self.run_id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id

    def send_metrics(self, records: Sequence[Record]) -> list[str]:
        """Send points.

        Returns:
            What was left out, because MLflow answers that it does not take it.
        """
        points = [
            Metric(storable(name), value, record["time_ms"], record["samples_seen"])
            for record in records
            for name, value in record["metrics"].items()
        ]
        left_out = []
        for chunk in _chunks(points, _METRICS):
            if self._refused(partial(self._client.log_batch, self.run_id, metrics=chunk)):
                for point in chunk:
                    why = self._refused(partial(self._client.log_batch, self.run_id, metrics=[point]))
                    left_out += [f"{point.key}: {why}"] if why else []
        return left_out

    def send(self, record: Record) -> list[str]:
        """Send a record of another kind.

        Returns:
            Why it was left out, if it can never be sent.
        """
        send = getattr(self, f"_send_{record['kind']}", None)
        if send is None:
            return [f"{record['kind']}: a kind of record that this version does not know"]
        if "file" in record:
            try:
                if not confined_tree(self._folder, record["file"]).exists():
                    return [f"{record['file']}: the file no longer exists"]
            except (ValueError, TypeError) as error:
                return [f"{record['file']!r}: {error}"]
        why = self._refused(partial(send, record))
        return [f"{record['kind']} {record.get('key', '')}: {why}"] if why else []

    def send_log(self, path: Path) -> str | None:
        """Send a log as it is now; return why it can never be sent."""
        return self._refused(partial(self._client.log_artifact, self.run_id, str(path), "logs"))

    def fail(self, time_ms: int) -> None:
        """Say that the training process went away without a word; a resumed run says otherwise again."""
        self._client.set_terminated(self.run_id, "FAILED", time_ms)

    def _find_experiment(self, target: Target) -> str:
        found = self._client.get_experiment_by_name(target.experiment)
        if found is not None and found.lifecycle_stage == "deleted":
            raise RefusedError(
                f"the experiment '{target.experiment}' was deleted: `mlflow experiments restore --experiment-id "
                f"{found.experiment_id}` restores it, tracking.experiment=NAME uses another one"
            )
        if found is not None:
            return str(found.experiment_id)
        local = target.uri.startswith("sqlite:")
        location = (self._folder.resolve().parent / "mlartifacts").as_uri() if local else None
        try:
            return str(self._client.create_experiment(target.experiment, location, _MODELS))
        except MlflowException:  # another run made it in this moment
            found = self._client.get_experiment_by_name(target.experiment)
            if found is None:
                raise
            return str(found.experiment_id)

    def _known_run(self, run_id: str | None) -> Run | None:
        try:
            return self._client.get_run(run_id) if run_id else None
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _find(self, experiment: str, tag: str, value: str) -> Run | None:
        """Return the oldest run with a tag."""
        quoted = value.replace("'", "_")
        found = self._client.search_runs(
            [experiment], f"tags.`{tag}` = '{quoted}'", order_by=["attributes.start_time ASC"], max_results=1
        )
        return found[0] if found else None

    def _parent(self, experiment: str, target: Target) -> str:
        """Return the run that others are part of; of several that were made in one moment, the oldest stays."""
        name = str(target.parent)
        found = self._find(experiment, _GROUP, name)
        if found is None:
            made = self._client.create_run(experiment, tags={_GROUP: name.replace("'", "_")}, run_name=name).info.run_id
            self._client.set_terminated(made, "FINISHED")
            time.sleep(_RACE_SECONDS)
            found = self._find(experiment, _GROUP, name)
            assert found is not None
            if found.info.run_id != made:
                self._client.delete_run(made)
        return str(found.info.run_id)

    def _refused(self, call: Callable[[], object]) -> str | None:
        """Call, and return why MLflow refuses the request; None if it accepts it.

        Raises:
            RunDeletedError: that is why.
            RefusedError: the user may not write there at all.
        """
        try:
            call()
        except ImageFileError as error:
            return str(error)
        except Exception as error:
            why = why_refused(error, self._uri)
            if why is None:
                raise
            if http_status(error) in (401, 403):
                raise RefusedError(why) from None
            if self._client.get_run(self.run_id).info.lifecycle_stage == "deleted":
                raise RunDeletedError(self.run_id) from None
            return why
        return None

    def _send_start(self, record: Record) -> None:
        known = self._client.get_run(self.run_id).data.params
        params = {key: str(value)[:_PARAM] for key, value in record["params"].items()}
        params = {storable(key): value for key, value in params.items()}
        new = [Param(key, value) for key, value in params.items() if key not in known]
        for chunk in _chunks(new, _PARAMS):
            self._client.log_batch(self.run_id, params=chunk)
        changed = {key: f"{known[key]} -> {value}" for key, value in params.items() if known.get(key, value) != value}
        tags = {**record["tags"], "bigtrain.attempt": str(record["attempt"])}
        tags |= {f"changed.{key}": text for key, text in changed.items()}
        if record["attempt"] == 1:
            tags["mlflow.note.content"] = record["note"]
            self._client.log_inputs(self.run_id, [_dataset_input(record["dataset"])])
        self._client.log_batch(self.run_id, tags=[RunTag(storable(key), text[:_TEXT]) for key, text in tags.items()])
        self._client.update_run(self.run_id, status="RUNNING")

    def _send_image(self, record: Record) -> None:
        """Send a picture as `MlflowClient.log_image` does, but under a name that is the same when it is sent again.

        MLflow's pages show a second, small file; its own is 256 pixels wide, which is too little for a grid.
        """
        key, step, time_ms = record["key"], record["samples_seen"], record["time_ms"]
        stem = f"{key.replace('/', '~')}+step+{step}+timestamp+{time_ms}"
        stem += f"+{uuid.uuid5(uuid.NAMESPACE_OID, stem)}"
        source = self._folder / record["file"]
        with open_picture(source, formats=OWN_FORMATS) as picture:  # inside it, each error is the picture's
            pixels = picture.convert("RGB")
        with tempfile.TemporaryDirectory() as folder:
            copyfile(source, Path(folder, f"{stem}.png"))
            pixels.save(Path(folder, f"{stem}+compressed.webp"), quality=90)
            self._client.log_artifacts(self.run_id, folder, "images")
        self._client.set_tag(self.run_id, "mlflow.loggedImages", "True")

    def _send_recording(self, record: Record) -> None:
        """Send a sound or a film, which the page of artifacts plays."""
        self._client.log_artifact(self.run_id, str(self._folder / record["file"]), "recordings")

    def _send_score(self, record: Record) -> None:
        """Say how a metric is made, in a tag: `protocol.fid5k` beside the metric `eval/fid5k`."""
        protocol = json.dumps(record["score"]["protocol"])
        name = storable(f"protocol.{record['key'].removeprefix('eval/')}")
        self._client.set_tag(self.run_id, name, protocol[:_TEXT])

    def _send_event(self, record: Record) -> None:
        text = f"kimg {record['samples_seen'] / 1000:g}: {record['text']}"
        self._client.set_tag(self.run_id, record["key"], text[:_TEXT])

    def _send_rollback(self, record: Record) -> None:
        text = f"kimg {record['begun'] / 1000:g} -> {record['samples_seen'] / 1000:g}: {record['reason']}"
        self._client.set_tag(self.run_id, "health.rollback", text[:_TEXT])

    def _send_artifact(self, record: Record) -> None:
        self._client.log_artifact(self.run_id, str(self._folder / record["file"]))

    def _send_checkpoint(self, record: Record) -> None:
        """Tell where a checkpoint lies and what is in it; it is too large to be sent."""
        facts: dict[str, str] = {name: str(record[name]) for name in ("path", "sha256") if name in record}
        contents: dict[str, Any] = {"kimg": record["samples_seen"] / 1000, **facts}
        self._client.log_dict(self.run_id, contents, f"checkpoints/{Path(record['path']).name}.json")
        tags = [RunTag(f"checkpoint.{name}", text[:_TEXT]) for name, text in facts.items()]
        self._client.log_batch(self.run_id, tags=tags)

    def _send_snapshot(self, record: Record) -> None:
        """Send a snapshot; a later one of the same key takes its place."""
        key, folder = record["key"], self._folder / record["file"]
        self._client.log_artifacts(self.run_id, str(folder), f"snapshots/{key}")
        self._client.set_tag(self.run_id, f"snapshot.{key}", f"kimg {record['samples_seen'] / 1000:g}: {folder}")

    def _send_model(self, record: Record) -> None:
        log_generator(self._client, self.run_id, self._folder, record)

    def _send_end(self, record: Record) -> None:
        self._client.set_terminated(self.run_id, record["status"], record["time_ms"])


def describe_failure(error: Exception) -> str:
    """Return the first line of an error, for one warning."""
    text: Any = str(error).strip() or type(error).__name__
    return str(text).splitlines()[0][:200]


@contextmanager
def _alone_with_database(uri: str, folder: Path) -> Iterator[None]:
    """Keep runs that start together in an empty folder from each creating the SQLite file; a server needs no such."""
    if not uri.startswith("sqlite:"):
        yield
        return
    with (folder.resolve().parent / ".mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _dataset_input(data: dict[str, Any]) -> DatasetInput:
    """Return what a run was trained on, as MLflow shows it: name, digest, place, size, shape."""
    tensor = {"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, *data["shape"]]}}
    dataset = Dataset(
        name=data["name"],
        digest=data["digest"][:32],
        source_type="local",
        source=json.dumps({"uri": data["folder"]}),
        profile=json.dumps(data["profile"]),
        schema=json.dumps({"mlflow_tensorspec": {"features": json.dumps([tensor]), "targets": None}}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _chunks(items: Sequence[ItemT], size: int) -> Iterator[Sequence[ItemT]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]

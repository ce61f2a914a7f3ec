"""Report a run: rank 0 writes the spool, and a process of its own copies it to MLflow, so that MLflow cannot hurt."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import NonNegativeFloat, field_validator

from bigtrain.core.config import Config
from bigtrain.core.logging import counted, log
from bigtrain.core.state import Progress, State
from bigtrain.evaluation.protocol import Score
from bigtrain.tracking.refusals import check_tracking_uri
from bigtrain.tracking.sent import STATE_FILE
from bigtrain.tracking.spool import Spool
from data_pipelines.codec import Pixels
from data_pipelines.files import write_json
from data_pipelines.secrets import refuse_secrets

_NODES_PER_S = 2.0


class TrackingConfig(Config):
    """Where the reports of a run are sent, besides its run folder.

    Attributes:
        mlflow: whether everything is copied to MLflow.
        uri: the MLflow server; null for $MLFLOW_TRACKING_URI, or otherwise a SQLite file beside the run folder.
        experiment: the MLflow experiment, which is created if it is missing; null for $MLFLOW_EXPERIMENT_NAME, or
            otherwise the name of the dataset.
        name: name of the MLflow run; null for the name of the run folder.
        parent: name of a parent run (which groups the seeds of one setting, or the trials of a search), created if it
            is missing; null for none.
        system_seconds: seconds between two measurements of each node's processors, memory, network and GPUs; 0 for
            none.
        models: whether the final and the best snapshot of a complete run are registered as models that load without
            bigtrain. Writing one takes seconds of the sender's time: leave it off for many short runs.
        flush_seconds: how long a finished run waits for the last records to be sent, in seconds.
    """

    mlflow: bool = True
    uri: str | None = None
    experiment: str | None = None
    name: str | None = None
    parent: str | None = None
    system_seconds: NonNegativeFloat = 10.0
    models: bool = True
    flush_seconds: NonNegativeFloat = 90.0

    @field_validator("uri")
    @classmethod
    def _holds_no_secret(cls, uri: str | None) -> str | None:
        instead = "use $MLFLOW_TRACKING_PASSWORD or ~/.pgpass, or the whole address in $MLFLOW_TRACKING_URI"
        return refuse_secrets(uri, instead) if uri else uri


def check_tracking(config: TrackingConfig) -> None:
    """See that MLflow is not asked for where it is known to refuse.

    Raises:
        ConfigError: the address is one that it never takes.
    """
    if config.mlflow:
        setting = "tracking.uri" if config.uri else "MLFLOW_TRACKING_URI"
        check_tracking_uri(config.uri or os.environ.get("MLFLOW_TRACKING_URI"), setting=setting)


class Tracker:
    """Reports a run; on all ranks but the first, does nothing, or lets the node be watched.

    Args:
        config: where to.
        folder: the run folder.
        active: whether this is rank 0.
        node: number of this rank's node, if this is the rank that has it watched.
        nodes: number of nodes; many are looked at more seldom, so that MLflow gets at most two requests a second.
    """

    def __init__(
        self, config: TrackingConfig, folder: Path, *, active: bool, node: int | None = None, nodes: int = 1
    ) -> None:
        self._config, self._folder, self._node, self._nodes = config, folder, node, nodes
        self._spool = Spool(folder) if active else None
        self._sender: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self._warned = False

    def start(
        self,
        progress: Progress,
        *,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        dataset: Mapping[str, Any],
        note: str = "",
    ) -> None:
        """Begin or go on: report what the run is, and start the sender.

        Args:
            progress: where the run is.
            params: its config, flat.
            tags: what runs are searched by.
            dataset: `name`, `digest`, `folder`, `shape` of an image, and `profile`, anything else about it.
            note: what people read first on the run's page; Markdown.
        """
        if self._node is not None and self._config.system_seconds:
            seconds = max(self._config.system_seconds, self._nodes / _NODES_PER_S if self._nodes > 1 else 0.0)
            self._watch = self._beside("node_metrics", f"--node={self._node}", f"--seconds={seconds}")
        if self._spool is None:
            return
        target = {
            "uri": self._config.uri,
            "experiment": self._config.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or dataset["name"],
            "name": self._config.name or self._folder.resolve().name,
            "parent": self._config.parent,
        }
        facts = {"params": dict(params), "tags": dict(tags), "dataset": dict(dataset), "note": note}
        self._append("start", progress, attempt=self._spool.starts + 1, mlflow=target, **facts)
        if self._config.mlflow:
            self._sender = self._beside("sender")

    def log(self, metrics: Mapping[str, float], progress: Progress) -> None:
        """Report metrics at this place of the run."""
        if metrics:
            self._append("metrics", progress, metrics={name: float(f"{v:.7g}") for name, v in metrics.items()})
            self._revive_sender()

    def log_scores(self, scores: Mapping[str, Score], progress: Progress) -> None:
        """Report scores with their protocols; their values are metrics besides."""
        for name, score in scores.items():
            self._append("score", progress, key=name, score=score.as_json())

    def log_image(self, key: str, image: Pixels, progress: Progress) -> Path:
        """Report a picture, uint8 [H, W] or [H, W, 3]; return its file."""
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        return self._log_sample("image", key, ".png", stream.getvalue(), progress)

    def log_recording(self, key: str, suffix: str, content: bytes, progress: Progress) -> Path:
        """Report a sound or a film, the content of a file with this suffix; return its file."""
        return self._log_sample("recording", key, suffix, content, progress)

    def _log_sample(self, kind: str, key: str, suffix: str, content: bytes, progress: Progress) -> Path:
        path = self._folder / "images" / f"{key}-kimg{progress.kimg:09.3f}{suffix}"
        if self._spool:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            except OSError as error:
                path.unlink(missing_ok=True)
                if not self._warned:
                    log.warning("%s: cannot be written (%s): training continues without this %s", path, error, kind)
                    self._warned = True
            else:
                self._append(kind, progress, key=key, file=str(path.relative_to(self._folder)))
        return path

    def log_event(self, key: str, text: str, progress: Progress) -> None:
        """Report that something happened, in words; the newest of a key is a tag in MLflow."""
        self._append("event", progress, key=key, text=text)

    def roll_back(self, reason: str, begun: int, progress: Progress) -> None:
        """Report that the run went back to this place of it, from `begun` images."""
        self._append("rollback", progress, reason=reason, begun=begun)

    def log_file(self, path: Path, progress: Progress) -> None:
        """Report a file of the run folder as an artifact."""
        self._append("artifact", progress, key=path.name, file=str(path.relative_to(self._folder)))

    def log_model(self, snapshot: Path, progress: Progress) -> None:
        """Report a snapshot as a model, if models are wanted."""
        if self._config.models:
            self._append("model", progress, key=snapshot.name, file=str(snapshot.relative_to(self._folder)))

    def log_snapshot(self, key: str, snapshot: Path, progress: Progress) -> None:
        """Report a snapshot as an artifact: the `final` one, or the `best` so far, which takes the last one's place."""
        self._append("snapshot", progress, key=key, file=str(snapshot.relative_to(self._folder)))

    def log_checkpoint(self, path: Path) -> None:
        """Report where a checkpoint lies, and its hash as its own description tells it."""
        if self._spool:
            facts = json.loads((path / "checkpoint.json").read_text())
            where = {"path": str(path.resolve()), "sha256": facts["sha256"]}
            self._spool.append("checkpoint", facts["samples_seen"], key=path.name, **where)

    def finish(self, status: str, progress: Progress) -> None:
        """End with `FINISHED` or `KILLED`, and wait for the sender within bounds."""
        if self._watch is not None:
            self._watch.terminate()
            self._watch.wait()
        self._append("end", progress, status=status)
        self._revive_sender()
        if self._sender is None:
            return
        try:
            with counted("sending to MLflow", None):
                self._sender.wait(self._config.flush_seconds)
        except subprocess.TimeoutExpired:
            self._sender.kill()
            log.warning("MLflow did not receive everything in time; send the rest with: bigtrain sync %s", self._folder)

    def state_dict(self) -> State:
        """See Stateful: the MLflow run, as far as one was made, and the length of the spool."""
        path = self._folder / STATE_FILE
        mlflow = json.loads(path.read_text()) if self._spool and path.is_file() else None
        return {"mlflow": mlflow, "spool": self._spool.mark() if self._spool else 0}

    def load_state_dict(self, state: State) -> None:
        """See Stateful: go on with the same MLflow run, also where its file in the run folder was lost."""
        path = self._folder / STATE_FILE
        if self._spool:
            self._spool.go_on(state.get("spool", 0))
        if self._spool and state["mlflow"] and not path.is_file():
            write_json(path, {**state["mlflow"], "offsets": {}})

    def _beside(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a process that ends after this one."""
        command = [sys.executable, "-m", f"bigtrain.tracking.{program}", str(self._folder), f"--follow={os.getpid()}"]
        return subprocess.Popen([*command, *arguments], start_new_session=True)

    def _revive_sender(self) -> None:
        """Start the sender again if it was killed; one that ended by itself had a reason."""
        if self._sender is not None and (self._sender.poll() or 0) < 0:
            log.warning("the process that sends to MLflow was killed, and is restarted")
            self._sender = self._beside("sender")

    def _append(self, kind: str, progress: Progress, **fields: Any) -> None:
        if self._spool:
            self._spool.append(kind, progress.samples_seen, **fields)

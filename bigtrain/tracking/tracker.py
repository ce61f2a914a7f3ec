"""Report a run: rank 0 writes the spool, and a process of its own copies it to MLflow, so that MLflow cannot hurt."""

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
from bigtrain.core.logging import log
from bigtrain.core.state import Progress, State
from bigtrain.tracking.spool import Spool
from data_pipelines.codec import Pixels
from data_pipelines.files import write_json
from data_pipelines.secrets import refuse_secrets


class TrackingConfig(Config):
    """Where a run is reported besides its folder.

    Attributes:
        mlflow: whether to copy everything to MLflow.
        uri: its server; null for $MLFLOW_TRACKING_URI, or else a SQLite file in the folder above the run's.
        experiment: its experiment.
        flush_seconds: how long a finished run waits for the last records to be sent.
    """

    mlflow: bool = True
    uri: str | None = None
    experiment: str = "bigtrain"
    flush_seconds: NonNegativeFloat = 90.0

    @field_validator("uri")
    @classmethod
    def _holds_no_secret(cls, uri: str | None) -> str | None:
        instead = (
            "use $MLFLOW_TRACKING_USERNAME and $MLFLOW_TRACKING_PASSWORD, or put the whole in $MLFLOW_TRACKING_URI"
        )
        return uri if uri is None else refuse_secrets(uri, instead)


class Tracker:
    """Reports a run; on all ranks but the first, does nothing.

    Args:
        config: where to.
        folder: the run folder.
        active: whether this is rank 0.
    """

    def __init__(self, config: TrackingConfig, folder: Path, *, active: bool) -> None:
        self._config, self._folder = config, folder
        self._spool = Spool(folder) if active else None
        self._sender: subprocess.Popen[bytes] | None = None

    def start(
        self, progress: Progress, *, params: Mapping[str, Any], tags: Mapping[str, str], dataset: Mapping[str, str]
    ) -> None:
        """Begin or go on: report the run's parameters, tags and dataset, and start the sender."""
        self._append("start", progress, params=dict(params), tags=dict(tags), dataset=dict(dataset))
        if self._spool and self._config.mlflow:
            command = [
                sys.executable,
                "-m",
                "bigtrain.tracking.sender",
                str(self._folder),
                "--follow",
                str(os.getpid()),
            ]
            self._sender = subprocess.Popen([*command, *_target(self._config)], start_new_session=True)

    def log(self, metrics: Mapping[str, float], progress: Progress) -> None:
        """Report metrics at this place of the run."""
        if metrics:
            self._append("metrics", progress, metrics={name: float(f"{v:.7g}") for name, v in metrics.items()})

    def log_image(self, key: str, image: Pixels, progress: Progress) -> Path:
        """Report a picture, uint8 [H, W] or [H, W, 3]; return its file."""
        path = self._folder / "images" / f"{key}-kimg{progress.kimg:09.3f}.png"
        if self._spool:
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(image).save(path)
            self._append("image", progress, key=key, file=str(path.relative_to(self._folder)))
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
        """Report a snapshot as a model."""
        self._append("model", progress, key=snapshot.name, file=str(snapshot.relative_to(self._folder)))

    def finish(self, status: str, progress: Progress) -> None:
        """End with `FINISHED` or `KILLED`, and wait for the sender within bounds."""
        self._append("end", progress, status=status)
        if self._sender is None:
            return
        try:
            self._sender.wait(self._config.flush_seconds)
        except subprocess.TimeoutExpired:
            self._sender.kill()
            log.warning("MLflow did not take everything in time; send the rest with: bigtrain sync %s", self._folder)

    def state_dict(self) -> State:
        """See Stateful: the MLflow run, as far as one was made."""
        path = self._folder / "mlflow.json"
        return {"mlflow": json.loads(path.read_text())} if self._spool and path.is_file() else {"mlflow": None}

    def load_state_dict(self, state: State) -> None:
        """See Stateful: go on with the same MLflow run, also where its file in the run folder was lost."""
        path = self._folder / "mlflow.json"
        if self._spool and state["mlflow"] and not path.is_file():
            write_json(path, {**state["mlflow"], "offset": 0})

    def _append(self, kind: str, progress: Progress, **fields: Any) -> None:
        if self._spool:
            self._spool.append(kind, progress.samples_seen, **fields)


def _target(config: TrackingConfig) -> list[str]:
    return ["--experiment", config.experiment, *(["--uri", config.uri] if config.uri else [])]

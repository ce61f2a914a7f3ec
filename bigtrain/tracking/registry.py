"""Generators in MLflow's registry: a model that needs nothing of bigtrain, its card, and who is the champion."""

import contextlib
import json
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import Array
from PIL import Image

from bigtrain.core.quantise import to_uint8
from bigtrain.generate.pictures import image_grid
from bigtrain.generate.programs import write_programs
from bigtrain.generate.snapshot import Snapshot, SnapshotError, load_snapshot
from bigtrain.tracking.model_card import CardScore, fid_of, scores_of, write_card
from bigtrain.tracking.spool import Record

CHAMPION = "champion"
"""Alias of the version with the lowest Fréchet distance."""

_LONGEST = 5000
"""Characters that MLflow takes in a description."""
_CODE = Path(__file__).with_name("generator_model.py")
_SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec("long", "seed", required=False),
            ColSpec(Array(DataType.double), "z", required=False),
            ColSpec("long", "class", required=False),
            ColSpec("double", "truncation", required=False),
        ]
    ),
    outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, -1))]),
    params=ParamSchema([ParamSpec("format", "string", "pixels")]),
)


def log_generator(client: MlflowClient, run_id: str, folder: Path, record: Record) -> None:
    """Log a snapshot as a model, register it, and make it the champion if it is; once, however often it is sent.

    A network that cannot be written as a program is no model; a tag of the run says so.

    Args:
        client: of the server given to `mlflow.set_tracking_uri`.
        run_id: of the run.
        folder: of the run.
        record: of kind `model`.
    """
    run = client.get_run(run_id)
    experiment = client.get_experiment(run.info.experiment_id).name
    try:
        snapshot = load_snapshot(folder / record["file"])
        name = model_name(experiment, str(snapshot.description.get("dataset", "")))
        samples_seen: int = snapshot.description.get("samples_seen") or record["samples_seen"]
        kimg = samples_seen / 1000
        versions = client.search_model_versions(f"run_id = '{run_id}'")
        version = next((known for known in versions if known.tags.get("kimg") == f"{kimg:g}"), None)
        if version is None:
            version = _register(client, run, name, folder, snapshot, kimg)
        _choose_champion(client, name, version)
    except SnapshotError as error:  # it would be so each time: the sender must not try again for ever
        client.set_tag(run_id, "model.missing", str(error)[:5000])


def _register(client: MlflowClient, run: Run, name: str, folder: Path, snapshot: Snapshot, kimg: float) -> ModelVersion:
    run_id = run.info.run_id
    scores = scores_of(folder, snapshot.description, kimg)
    with tempfile.TemporaryDirectory() as temporary, mlflow.start_run(run_id=run_id):
        files = Path(temporary, "generator")
        card = write_model_files(snapshot, files, title=name, run=folder, scores=scores)
        info = mlflow.pyfunc.log_model(
            name="generator",
            python_model=str(_CODE),
            artifacts={"generator": str(files)},
            signature=_SIGNATURE,
            input_example=_example(snapshot),
            pip_requirements=requirements(),
            step=round(kimg * 1000),
        )
    tags = {"kimg": f"{kimg:g}", "run": folder.resolve().name}
    tags |= {"dataset.digest": run.data.tags.get("dataset.digest", "")}
    fid = fid_of(scores)
    if fid is not None:
        tags |= {"score.name": fid.name, "score.value": f"{fid.value:.7g}", "score.protocol": fid.protocol or ""}
    with contextlib.suppress(MlflowException):  # it exists
        client.create_registered_model(name, description="Generators trained with bigtrain, see each version's card.")
    # The page has a title of its own, and shows no picture that lies beside the card.
    text = card.split("\n", 2)[2].replace("![samples](samples.png)", "Samples: `artifacts/generator/samples.png`.")
    return client.create_model_version(
        name, info.model_uri, run_id, tags, description=text[:_LONGEST], model_id=info.model_id, await_creation_for=60
    )


def write_model_files(snapshot: Snapshot, folder: Path, *, title: str, run: Path, scores: list[CardScore]) -> str:
    """Write programs, facts, card and samples into `folder`; return the card.

    Raises:
        SnapshotError: the network cannot be written as a program.
    """
    image = snapshot.generator.image
    write_programs(snapshot, folder)
    facts = {"z_dim": snapshot.generator.z_dim, **vars(image), "class_names": list(snapshot.class_names)}
    (folder / "model.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    rows = image.classes if 1 < image.classes <= 10 else 4
    seeds = [column for _ in range(rows) for column in range(8)] if rows == image.classes else list(range(8 * rows))
    labels = [row for row in range(rows) for _ in range(8)] if rows == image.classes else None
    Image.fromarray(image_grid(to_uint8(snapshot.sample(seeds, labels)), 8)).save(folder / "samples.png")
    card = write_card(title, run, vars(image), {**snapshot.description, **facts}, scores)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return card


def requirements() -> list[str]:
    """Return what the model needs where it is loaded: these versions wrote it."""
    needed = {"torch": torch.__version__.split("+")[0]}
    needed |= {name: metadata.version(name) for name in ("mlflow", "numpy", "pandas", "pillow")}
    return [f"{name}=={number}" for name, number in needed.items()]


def model_name(experiment: str, dataset: str) -> str:
    """Return the registered model that the runs of an experiment on a dataset share."""
    name = experiment if not dataset or dataset in experiment else f"{experiment}.{dataset}"
    return name.replace("/", "-").replace(":", "-")


def _example(snapshot: Snapshot) -> pd.DataFrame:
    classes = snapshot.generator.image.classes
    table: dict[str, list[Any]] = {"seed": [0, 1], "truncation": [1.0, 0.7]}
    return pd.DataFrame(table | ({"class": [0, min(1, classes - 1)]} if classes else {}))


def _choose_champion(client: MlflowClient, name: str, version: ModelVersion) -> None:
    """Give the alias to a version whose distance is lower than the champion's, where the two can be compared."""
    if "score.value" not in version.tags:
        return
    try:
        champion = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException:
        champion = None
    if champion is not None:
        same = ("score.name", "score.protocol", "dataset.digest")
        differs = [key for key in same if champion.tags.get(key, "") != version.tags.get(key, "")]
        if differs:
            text = f"not compared with version {champion.version}: another {', '.join(differs)}"
            client.set_model_version_tag(name, version.version, "champion", text)
            return
        if float(champion.tags["score.value"]) <= float(version.tags["score.value"]):
            return
    client.set_registered_model_alias(name, CHAMPION, version.version)

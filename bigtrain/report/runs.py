"""What a report tells of a run, read from its folder; of any attempt, finished or not."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bigtrain.core.config import flatten, read_yaml
from bigtrain.core.errors import UserError
from bigtrain.core.presence import read_heartbeat
from bigtrain.run.goodput import BEFORE, goodput_of, in_words
from bigtrain.tracking.events import read_events
from bigtrain.tracking.spool import FILE_NAME, Record, read_curves, read_outline
from data_pipelines.files import confined

Points = list[tuple[float, float]]


class ReportError(UserError):
    """There is nothing to report on."""


@dataclass(frozen=True)
class Picture:
    """A picture, a sound or a film of a run, `kimg` thousand images into it."""

    key: str
    kimg: float
    file: Path


@dataclass(frozen=True)
class TimelineEvent:
    """Something that happened to a run: when (UTC), where in the run if it has a place there, what, and details."""

    when: datetime
    kimg: float | None
    what: str
    details: str
    bad: bool = False


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        name: of its folder, or what tells it from others of that name.
        folder: where it is.
        config: flat.
        metrics: points (kimg, value) by name.
        scores: the last record of each score, with its protocol, by name.
        pictures: in order.
        timeline: events, oldest first.
        symptoms: of the last health report.
        environment: as `environment.json` has it.
        tags: of the last start.
        dataset: of the last start.
        attempts: begin and end of each, as far as they are known.
        status: in one word.
        kimg: how far it came.
        total_kimg: how far it is meant to go.
        goodput: how effective its time was, in words; empty where that is not known.
    """

    name: str
    folder: Path
    config: Mapping[str, Any] = field(repr=False)
    metrics: Mapping[str, Points] = field(repr=False)
    scores: Mapping[str, Mapping[str, Any]] = field(repr=False)
    pictures: Sequence[Picture] = field(repr=False)
    timeline: Sequence[TimelineEvent] = field(repr=False)
    symptoms: Sequence[Mapping[str, Any]] = field(repr=False)
    environment: Mapping[str, Any] = field(repr=False)
    tags: Mapping[str, str]
    dataset: Mapping[str, Any]
    attempts: Sequence[tuple[datetime, datetime]]
    status: str
    kimg: float
    total_kimg: float
    goodput: str = ""

    @property
    def hours(self) -> float:
        """How long it ran, all attempts together."""
        return sum((end - begin).total_seconds() for begin, end in self.attempts) / 3600

    @property
    def devices(self) -> int:
        """Ranks: processors' processes or GPUs."""
        return int(self.tags.get("world_size", "1"))

    @property
    def score(self) -> str | None:
        """Name of the score that it is known by: `eval.best`, else the first Fréchet distance, or whatever there is."""
        best = self.config.get("eval.best")
        for name, score in self.scores.items():
            if best is not None and score["protocol"]["metric"].split(" ")[0] == best and name in self.metrics:
                return name
        names = [name for name in sorted(self.metrics) if name.startswith("eval/") and not is_bound(name)]
        return next((name for name in names if name.startswith("eval/fid")), names[0] if names else None)


def is_bound(name: str) -> bool:
    """Tell whether a metric is an end of another's interval."""
    return name.endswith(("_low", "_high"))


def read_run(folder: Path, name: str | None = None) -> Run:
    """Read a run.

    Raises:
        ReportError: it is not a run folder.
    """
    for file in ("config.yaml", FILE_NAME):
        if not (folder / file).is_file():
            raise ReportError(f"{folder}: not a run folder, {file} is missing")
    records = list(read_outline(folder / FILE_NAME))
    starts = [record for record in records if record["kind"] == "start"]
    last: Record = starts[-1] if starts else {}
    config = flatten(read_yaml(folder / "config.yaml"))
    return Run(
        name=name or folder.resolve().name,
        folder=folder,
        config=config,
        metrics=read_curves(folder),
        scores={record["key"]: record["score"] for record in records if record["kind"] == "score"},
        pictures=_pictures(records, folder),
        timeline=_timeline(records, folder),
        symptoms=_json(folder / "health.json").get("symptoms", []),
        environment=_json(folder / "environment.json"),
        tags=last.get("tags", {}),
        dataset=last.get("dataset", {}),
        attempts=_attempts(records),
        status=_status(records),
        kimg=records[-1]["samples_seen"] / 1000 if records else 0.0,
        total_kimg=float(config.get("total_kimg", 0)),
        goodput=in_words(goodput) if (goodput := goodput_of(read_events(folder), read_heartbeat(folder))) else "",
    )


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read runs, and give those of one name the names of the folders above too.

    Raises:
        ReportError: one is not a run folder, or is named twice.
    """
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise ReportError("a run is named twice")
    names = [folder.name for folder in resolved]
    return [
        read_run(folder, name if names.count(name) == 1 else f"{place.parent.name}/{name}")
        for folder, place, name in zip(folders, resolved, names, strict=True)
    ]


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys whose values are not the same in all configs; where a run lies is no setting."""
    keys = sorted(set().union(*configs))
    return [key for key in keys if key != "run_dir" and len({json.dumps(one.get(key)) for one in configs}) > 1]


def _status(records: Sequence[Record]) -> str:
    ends = [record for record in records if record["kind"] in ("start", "end")]
    if not ends or ends[-1]["kind"] == "start":
        return "not finished"
    words = {"FINISHED": "finished", "KILLED": "stopped", "FAILED": "failed"}
    return words.get(ends[-1]["status"], str(ends[-1]["status"]))


def _attempts(records: Sequence[Record]) -> list[tuple[datetime, datetime]]:
    attempts: list[tuple[datetime, datetime]] = []
    for record in records:
        now = _time(record)
        if record["kind"] == "start" or not attempts:
            attempts.append((now, now))
        attempts[-1] = (attempts[-1][0], now)
    return attempts


def _pictures(records: Sequence[Record], folder: Path) -> list[Picture]:
    """Return the pictures that are still there; a place that was passed twice has the later one.

    Raises:
        ReportError: the run names a picture outside of its folder.
    """
    found = {}
    for record in records:
        if record["kind"] in ("image", "recording"):
            try:
                file = confined(folder, record["file"])
            except ValueError as error:
                raise ReportError(f"{folder / FILE_NAME}: a picture, {error}") from None
            if file.is_file():
                key = record["key"], record["samples_seen"]
                found[key] = Picture(record["key"], record["samples_seen"] / 1000, file)
    return sorted(found.values(), key=lambda picture: (picture.key, picture.kimg))


def _timeline(records: Sequence[Record], folder: Path) -> list[TimelineEvent]:
    events = []
    params: Mapping[str, Any] = {}
    for record in records:
        when, kimg = _time(record), record["samples_seen"] / 1000
        if record["kind"] == "start":
            tags = record.get("tags", {})
            new = record.get("params", {})
            keys = differing([params, new]) if params else []
            changed = [f"{key}: {params.get(key)} → {new.get(key)}" for key in keys]
            where = f"{tags.get('world_size', '1')} ranks on {tags.get('host', 'a machine')}"
            events.append(
                TimelineEvent(when, kimg, "started" if not params else "went on", "; ".join([where, *changed]))
            )
            params = new
        elif record["kind"] == "end":
            events.append(TimelineEvent(when, kimg, record["status"].lower(), "", record["status"] == "FAILED"))
        elif record["kind"] == "rollback":
            text = f"from kimg {record['begun'] / 1000:g}: {record['reason']}"
            events.append(TimelineEvent(when, kimg, "rolled back", text, bad=True))
        elif record["kind"] == "event" and not record["key"].startswith("event."):  # those are in the log of events
            events.append(TimelineEvent(when, kimg, record["key"], record["text"], bad="critical" in record["text"]))
    for event in read_events(folder):
        facts = {name: fact for name, fact in event.items() if name not in ("time", "event", "kimg", BEFORE)}
        if event["event"] in ("start", "complete"):
            continue
        details = ", ".join(f"{name} {fact}" for name, fact in facts.items())
        when = datetime.fromisoformat(event["time"])
        events.append(TimelineEvent(when, event.get("kimg"), event["event"].replace("_", " "), details, _is_bad(event)))
    return sorted(events, key=lambda event: event.when)


def _is_bad(event: Mapping[str, Any]) -> bool:
    return any(word in event["event"] for word in ("fail", "restart", "hung", "killed", "damaged", "died"))


def _time(record: Record) -> datetime:
    return datetime.fromtimestamp(record["time_ms"] / 1000, UTC)


def _json(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return document

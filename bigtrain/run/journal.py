"""The journal of a run: its events, its heartbeat, and the cost of faults."""

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from bigtrain.core.logging import log
from bigtrain.core.presence import Heartbeat, read_heartbeat
from bigtrain.core.state import Progress
from bigtrain.distributed.statistics import changes_in_forward
from bigtrain.run.goodput import ACCOUNT, BEFORE, TimeAccount, former_life, goodput_of
from bigtrain.tracking.events import EventLog, events_from, read_events
from bigtrain.tracking.tracker import Tracker


class Journal:
    """Writes events, the heartbeat, and MLflow's tags and metrics of faults; silent on all ranks but the first.

    Args:
        folder: the run folder.
        tracker: takes tags and metrics.
        active: whether this is rank 0.
    """

    def __init__(self, folder: Path, tracker: Tracker, *, active: bool) -> None:
        self._folder, self._tracker, self._active = folder, tracker, active
        self._events, self._heartbeat = EventLog(folder), Heartbeat(folder)
        self.account = TimeAccount()
        self._replaced = 0.0
        self._faults = FaultCounter(folder)

    def begin(self, progress: Progress, checkpoint: Path | None, **facts: Any) -> None:
        """Tell of a start, or of where the run goes on and how much of it must be done again.

        Args:
            progress: as loaded.
            checkpoint: what was loaded; None for nothing.
            facts: where it runs.
        """
        if not self._active:
            return
        heartbeat = read_heartbeat(self._folder)
        reached = heartbeat.get("samples_seen", 0)
        lost = max(reached - progress.samples_seen, 0) / 1000
        if checkpoint is None and not reached:
            self.note("start", progress, **facts)
        else:
            self._report_cause(progress)
            source = str(checkpoint.relative_to(self._folder)) if checkpoint else "the beginning"
            self.note("resumed", progress, checkpoint=source, lost_kimg=lost, **facts, **former_life(heartbeat))
            if lost:
                log.info("%.3f kimg after it were lost and are repeated", lost)
        self.beat(progress, now=True)

    def compare_cut(self, images: int, micro_batch: int, networks: Iterable[nn.Module]) -> None:
        """Warn of a batch in other pieces than when the run was last started, where that changes what is computed.

        Args:
            images: of a batch that are a rank's.
            micro_batch: of them that are computed at once.
            networks: of the run.
        """
        counts = [event["micro_batches"] for event in read_events(self._folder) if "micro_batches" in event]
        now, before = images // micro_batch, counts[-1] if counts else None
        if not self._active or before in (None, now) or not any(map(changes_in_forward, networks)):
            return
        remedy = (
            f"; micro_batch={images // before} --allow-config-change continues as before"
            if images % before == 0
            else ""
        )
        log.warning(
            "%d micro-batches a step instead of %d: batch statistics and spectral norms are updated in each one, and "
            "differ from here on%s",
            now,
            before,
            remedy,
        )

    def note(self, event: str, progress: Progress, **facts: Any) -> None:
        """Write an event down; the newest of a kind is a tag in MLflow."""
        if self._active:
            with contextlib.suppress(OSError):  # a full disk must not keep the event from MLflow
                self._events.append(event, kimg=progress.kimg, **facts)
            text = ", ".join(f"{name} {value}" for name, value in facts.items() if name != BEFORE)
            self._tracker.log_event(f"event.{event}", text or event, progress)

    def _report_cause(self, progress: Progress) -> None:
        """Let MLflow know why the run was started again, which whoever did it, or the last life, has written down."""
        for event in read_events(self._folder)[-1:]:
            if event["event"] == "restart":
                text = f"{event['cause']}; restart {event['number']} of {event['of']}"
                self._tracker.log_event("event.restart", text, progress)
            elif event["event"] == "failed":
                self._tracker.log_event("event.failed", event["cause"], progress)

    def beat(self, progress: Progress, *, now: bool = False) -> None:
        """Show that the run is alive, and where it is."""
        if self._active:
            self._heartbeat.beat(progress, now=now, **{ACCOUNT: self.account.read()})

    def count(self, metrics: Mapping[str, float], progress: Progress) -> None:
        """Note samples that others stood in for in an interval, and report what faults there were so far."""
        if not self._active:
            return
        replaced = metrics.get("data/replaced", 0.0) - self._replaced
        if replaced > 0:
            self.note("replaced_sample", progress, count=int(replaced))
            self._replaced += replaced
        faults = self._faults.read()
        if faults["restarts"]:
            self._tracker.log({f"faults/{name}": float(value) for name, value in faults.items()}, progress)
        self.beat(progress, now=True)
        goodput = goodput_of(read_events(self._folder), read_heartbeat(self._folder))
        if goodput is not None:
            self._tracker.log({"time/goodput": goodput["share"]}, progress)


def faults_of(folder: Path) -> dict[str, float]:
    """Return how often a run was resumed after a fault, and the thousands of images that had to be done again."""
    return FaultCounter(folder).read()


class FaultCounter:
    """Counts the faults of a run; each call of `read` reads only the events that came since the last one.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._offset = folder, 0
        self._before = ""
        self._restarts, self._lost = 0, 0.0

    def read(self) -> dict[str, float]:
        """Return `restarts`, of a run that had not been stopped, and `lost_kimg`, which had to be done again."""
        events, self._offset = events_from(self._folder, self._offset)
        for event in events:
            name = event["event"]
            if name == "resumed":
                self._lost += event.get("lost_kimg", 0.0)
                self._restarts += self._before not in ("", "stopped", "complete")
            if name in ("start", "resumed", "restart", "stopped", "complete"):
                self._before = name
        return {"restarts": self._restarts, "lost_kimg": round(self._lost, 6)}

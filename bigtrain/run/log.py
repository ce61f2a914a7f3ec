"""The log of a run: one front for the console, the journal, the metrics and MLflow."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch

from bigtrain.core.logging import Display, log
from bigtrain.core.presence import place_of_this_process
from bigtrain.core.state import Progress
from bigtrain.distributed.collectives import RunningMeans, is_rank_zero, sum_over_ranks
from bigtrain.engine.feed import Faults
from bigtrain.engine.step import StepResult
from bigtrain.evaluation.protocol import Score, flat_metrics, in_words
from bigtrain.generate.pictures import plot_curves
from bigtrain.generate.recordings import Recording
from bigtrain.run.folder import mark_stopped
from bigtrain.run.journal import Journal
from bigtrain.run.load import Load
from bigtrain.run.profiling import Profiler
from bigtrain.run.usage import Speed, Usage
from bigtrain.tracking.spool import read_curves
from bigtrain.tracking.tracker import Tracker
from data_pipelines.codec import Pixels


class RunLog:
    """The log of a run. Metrics are averaged over micro-batches, steps and ranks until they are read.

    Args:
        folder: the run folder.
        progress: of the run.
        tracker: copies everything to MLflow.
        journal: events and the heartbeat.
        means: of the statistics of steps.
        load: time, messages and memory of every rank.
        usage: floating-point operations and memory.
        profile: where its wall time goes.
        samples: in the dataset, for the number of epochs.
    """

    def __init__(
        self,
        folder: Path,
        progress: Progress,
        *,
        tracker: Tracker,
        journal: Journal,
        means: RunningMeans,
        load: Load,
        usage: Usage,
        profile: Profiler,
        samples: int,
    ) -> None:
        self._folder, self._progress = folder, progress
        self.tracker, self.journal, self.means = tracker, journal, means
        self._load, self.usage, self.profile = load, usage, profile
        self._samples = samples
        self._display = Display(progress, active=is_rank_zero())

    def begin(self, loaded: Path | None, description: Mapping[str, Any], **facts: Any) -> None:
        """Report the run's description, and the checkpoint from which it resumes.

        Args:
            loaded: the checkpoint; None for nothing.
            description: the arguments of `Tracker.start`.
            facts: where it runs.
        """
        self.tracker.start(self._progress, **description)
        for name in ("config.yaml", "environment.json"):
            self.tracker.log_file(self._folder / name, self._progress)
        self.journal.begin(self._progress, loaded, **facts, **place_of_this_process())
        self.restart_clock()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Take the time of what is done inside: for the profile, and for the account of the run's time."""
        with self.profile.span(name), self.journal.account.span(name):
            yield

    @contextmanager
    def event(self, name: str) -> Iterator[None]:
        """Take the time of an event between two steps, and show its name."""
        with self.span(name), self._display.during(name):
            yield

    def restart_clock(self) -> None:
        """Measure speed from here on."""
        self._speed = Speed(self._progress)

    def display(self) -> AbstractContextManager[object]:
        """Show the progress while training."""
        return self._display

    def measured_step(self) -> AbstractContextManager[None]:
        """Measure the step that is taken inside, data included."""
        self.profile.step()
        return self._load.step()

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Measure the time that the training waits for samples."""
        asked = time.perf_counter()
        with self._load.data_wait():
            yield
        self.means.add({"time/data_wait_s": time.perf_counter() - asked})

    def step(self, result: StepResult) -> None:
        """Add what a step tells, after the step is counted."""
        for stats in result.stats:
            self.means.add(stats)
        began = time.perf_counter()
        with self.span("count_operations"):  # of the first of a kind, which takes a while
            self.means.add(self.usage.of_step(self._progress))
        self.leave_out(time.perf_counter() - began)
        self.journal.beat(self._progress)

    def read(self, faults: Faults) -> dict[str, float]:
        """Return what was measured since the last reading, averaged over steps and ranks. Collective.

        Args:
            faults: damaged samples and repeated fetches since this process began.
        """
        speed = self._speed.read()
        replaced, retries = sum_over_ranks(torch.tensor([faults.replaced, faults.retries])).tolist()
        metrics = {
            **self.means.read(),
            **speed,
            **self._load.read(self.usage.activations),
            "data/replaced": replaced,
            "data/retries": retries,
            "progress/kimg": self._progress.kimg,
            "progress/epoch": self._progress.samples_seen / self._samples,
        }
        return {**metrics, **self.usage.of_interval(metrics)}

    def interval(self, metrics: Mapping[str, float]) -> None:
        """Report the metrics of an interval, and show them."""
        self.tracker.log(metrics, self._progress)
        self.journal.count(metrics, self._progress)
        self._display.update(metrics)

    def metrics(self, metrics: Mapping[str, float]) -> None:
        """Report metrics at this place of the run."""
        self.tracker.log(metrics, self._progress)

    def pictures(self, pictures: Mapping[str, Pixels]) -> None:
        """Report pictures by the key of their slider."""
        for key, picture in pictures.items():
            self.tracker.log_image(key, picture, self._progress)

    def recordings(self, recordings: Mapping[str, Recording]) -> None:
        """Report sounds and films by the key of their slider."""
        for key, recording in recordings.items():
            self.tracker.log_recording(key, recording.suffix, recording.content, self._progress)

    def scores(self, scores: Mapping[str, Score], *, replaced: int, better: bool, seconds: float) -> dict[str, float]:
        """Report scores; return them as metrics.

        Args:
            scores: of an evaluation.
            replaced: damaged reference samples that others stand in for.
            better: whether there is a best one among them.
            seconds: that it took, which do not count as training.
        """
        metrics = flat_metrics(scores)
        if replaced:
            metrics["data/reference_replaced"] = float(replaced)
        self.tracker.log_scores(scores, self._progress)
        self.metrics({**metrics, "time/eval_s": seconds} if scores else {})
        log.info("kimg %-7.1f %s%s  (%.0f s)", self._progress.kimg, in_words(scores), ", the best" * better, seconds)
        self.leave_out(seconds)
        return metrics

    def leave_out(self, seconds: float) -> None:
        """Leave time that has passed out of the speed."""
        self._speed.leave_out(seconds)

    def skipped(self, steps: Iterable[tuple[str, Progress]]) -> None:
        """Note optimizer steps that were skipped, with phase and place."""
        for phase, where in steps:
            self.journal.note("skipped_step", where, phase=phase)

    def snapshot(self, key: str, folder: Path) -> None:
        """Report a snapshot as an artifact: `best` or `final`."""
        self.tracker.log_snapshot(key, folder, self._progress)

    def complete(self, final: Path, best: Path | None) -> None:
        """Report a run that is complete: curves, and its snapshots as models."""
        self.journal.beat(self._progress, now=True)
        if is_rank_zero():
            curves = self._folder / "curves.png"
            plot_curves(read_curves(self._folder), curves)
            self.tracker.log_file(curves, self._progress)
            self.snapshot("final", final)
            for folder in [final, *([best] if best else [])]:
                self.tracker.log_model(folder, self._progress)
        self.journal.note("complete", self._progress)

    def stopped(self, signal: str | None, collapse: str | None) -> None:
        """Report a run that stops before its end.

        Args:
            signal: what asked for it from outside; None where nothing did.
            collapse: what the health monitor stopped it for.
        """
        self.journal.beat(self._progress, now=True)
        reason = signal or collapse or "request"
        self.journal.note("stopped", self._progress, by=reason)
        if is_rank_zero():
            seen = self._progress.samples_seen
            mark_stopped(self._folder, signal=reason, samples_seen=seen, by_signal=signal is not None)

    def finish(self, *, complete: bool) -> None:
        """Write the profile, and let MLflow have the rest."""
        for path in self.profile.write():
            if is_rank_zero():
                self.tracker.log_file(path, self._progress)
        self.tracker.finish("FINISHED" if complete else "KILLED", self._progress)

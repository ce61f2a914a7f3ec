"""The training loop."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bigtrain.config import TrainingConfig
from bigtrain.core import stop
from bigtrain.core.state import Progress
from bigtrain.distributed.collectives import first_of_ranks
from bigtrain.distributed.joint_wait import JointWait, StepGivenUpError
from bigtrain.distributed.watchdog import Watchdog
from bigtrain.engine.ema import EMA
from bigtrain.engine.feed import Feed
from bigtrain.engine.step import Spans, StepResult, take_step
from bigtrain.engine.strategy import Strategy
from bigtrain.engine.task import Task
from bigtrain.generate.previews import Previews
from bigtrain.generate.writer import SnapshotWriter
from bigtrain.run.calendar import Calendar, every
from bigtrain.run.examination import Examination
from bigtrain.run.log import RunLog
from bigtrain.run.rollback import Rollback
from bigtrain.run.saving import Saving
from bigtrain.run.scoring import Scoring
from bigtrain.run.stopping import Stopping


class Result(NamedTuple):
    """How a run ended: whether it is complete or was stopped on the way, and the scores of the last evaluation."""

    complete: bool
    scores: Mapping[str, float]


@dataclass
class Trainer:
    """Trains the players of a task against each other; every rank has one, whose parts `bigtrain.build` makes."""

    config: TrainingConfig
    progress: Progress
    task: Task
    strategies: Mapping[str, Strategy]
    averages: Mapping[str, EMA]
    feed: Feed
    spans: Spans
    watchdog: Watchdog
    log: RunLog
    previews: Previews
    scoring: Scoring
    snapshots: SnapshotWriter
    examination: Examination
    rollback: Rollback
    saving: Saving
    announce: Callable[[Path | None], Mapping[str, Any]]
    early_stop: Stopping
    joint_wait: JointWait
    stopping: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        """Fix what happens when, and in which order."""
        config = self.config
        self.calendar = Calendar(
            [
                ("log", every(config.log.interval_kimg), self.log_interval),
                ("preview", every(config.preview.interval_kimg), self.preview),
                ("evaluate", self.scoring.due, self.scoring.evaluate),
                ("snapshot", every(config.snapshot.interval_kimg), self.scoring.snapshot),
                ("examine", every(self.examination.interval(config.features_kimg)), self.examination.thorough),
                ("roll_back", self.rollback.due, self.rollback.act),
                ("save", every(config.checkpoint.interval_kimg), self.saving.save),
            ],
            self.log.event,
        )

    def run(self) -> Result:
        """Train to the end, or until all ranks agree to stop. Collective."""
        self.start()
        with self.log.display(), suppress(StepGivenUpError):  # it waited for data when it was asked to stop
            while not (self.stopping or self.progress.done):
                self.log.step(self.take_step())
                for event in self.calendar.due(self.progress):
                    event()
                self.stopping = self.early_stop.agreed()
        return self.finish()

    def start(self) -> None:
        """Resume from the newest checkpoint, if there is one, and start the log."""
        with self.log.span("start"):
            loaded = self.saving.load(keep_one=self.config.health.on_collapse == "rollback")
            self.feed.seek(self.progress.samples_seen)
            self.log.begin(loaded, **self.announce(loaded))
            if not self.progress.samples_seen and self.config.preview.interval_kimg:
                self.preview()  # MLflow's sliders begin at step 0
            self.log.restart_clock()
        if self.scoring.unfinished:
            self.scoring.finish()
            self.saving.save()
        self.early_stop.agreed()  # begins the vote whose outcome the next call returns
        self.stopping = self.early_stop.agreed()

    def take_step(self) -> StepResult:
        """Take one step on this rank's shares of the next global batches. Collective."""
        with self.log.measured_step():
            with self.log.span("next_batches"):
                batches = [next(self.feed) for _ in range(self.task.batches_per_step)]
                self.joint_wait.meet()
            with self.log.span("train_step"):
                result = take_step(
                    self.task,
                    self.strategies,
                    batches,
                    self.progress,
                    micro_batch=self.config.micro_batch_size,
                    global_batch=self.config.global_batch,
                    averages=self.averages,
                    lr_factor=self.rollback.recovery.lr_factor,
                    spans=self.spans,
                )
        self.examination.monitor.add_steps(result, self.progress)
        self.watchdog.beat("between steps", pause=True)
        return result

    def log_interval(self) -> None:
        """Report what was measured since the last time, and examine it. Collective."""
        self.examination.read_skipped()
        self.log.interval(self.examination.quick(self.log.read(self.feed.faults)))

    def preview(self) -> None:
        """Report pictures of what the averaged networks make and of what discriminators are shown. Collective."""
        self.log.pictures(self.previews.draw(self.progress))
        self.log.recordings(self.previews.record())

    def finish(self) -> Result:
        """Save what is not saved, and finish the log. Collective."""
        self.early_stop.settle()
        if self.stopping or not self.progress.done:
            self.saving.save_if_news()
        self.saving.wait()
        stop.leave()
        self.feed.close()
        complete = self.progress.done and not self.scoring.unfinished
        if complete:
            self.scoring.snapshot()
            self.log.complete(self.snapshots.final, self.snapshots.best)
        else:
            self.log.stopped(first_of_ranks(stop.received()), self.rollback.stopped_by)
        self.log.finish(complete=complete)
        return Result(complete=complete, scores=self.scoring.scores)

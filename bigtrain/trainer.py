"""The training loop."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bigtrain.checkpoint import Checkpoints
from bigtrain.config import TrainingConfig
from bigtrain.core import stop
from bigtrain.core.batch import Batch
from bigtrain.core.logging import Display, log
from bigtrain.core.presence import place_of_this_process
from bigtrain.core.rng import Draws
from bigtrain.core.state import Progress
from bigtrain.distributed.collectives import (
    RunningMeans,
    any_rank,
    first_of_ranks,
    is_rank_zero,
    on_rank_zero,
    sum_over_ranks,
)
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.precision import advice_on, convolution_speeds
from bigtrain.distributed.watchdog import Watchdog
from bigtrain.engine.ema import EMA
from bigtrain.engine.player import Phase, Rivals
from bigtrain.evaluation.in_training import Evaluations
from bigtrain.evaluation.protocol import as_json, flat_metrics, in_words
from bigtrain.generate.pictures import image_grid, plot_curves
from bigtrain.generate.previews import Previews
from bigtrain.generate.snapshot import SnapshotError, save_snapshot
from bigtrain.health.checkup import Checkup
from bigtrain.health.moves import Moves
from bigtrain.health.recovery import Recovery
from bigtrain.health.report import write_report
from bigtrain.models import Generator
from bigtrain.run.description import describe_run
from bigtrain.run.folder import mark_stopped
from bigtrain.run.journal import Journal
from bigtrain.run.load import Load
from bigtrain.run.profiling import Profile, profiled
from bigtrain.run.usage import Speed, Usage
from bigtrain.strategies import Strategy
from bigtrain.tasks.base import Task
from bigtrain.tracking.spool import read_metrics
from bigtrain.tracking.tracker import Tracker
from data_pipelines.files import replace_folder
from data_pipelines.manifest import Manifest
from data_pipelines.stream import BatchStream

Report = Callable[[Mapping[str, float]], bool]
"""The one seam: told the latest scores after every step, answers whether to stop (a scheduler of trials does)."""


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        complete: False when it was stopped on the way; the same command goes on.
        scores: of the last evaluation.
    """

    complete: bool
    scores: Mapping[str, float]


@dataclass
class Trainer:
    """Trains the players of a task against each other; every rank holds one.

    Everything is handed in ready-made, see `bigtrain.build`.
    """

    config: TrainingConfig
    folder: Path
    manifest: Manifest
    ranks: Ranks
    task: Task
    strategies: Mapping[str, Strategy]
    ema: EMA
    batches: BatchStream
    evaluations: Evaluations
    tracker: Tracker
    journal: Journal
    checkpoints: Checkpoints
    progress: Progress
    means: RunningMeans
    checkup: Checkup
    recovery: Recovery
    watchdog: Watchdog
    load: Load
    previews: Previews
    usage: Usage
    profile: Profile
    report: Report = lambda scores: False
    _speed: Speed = field(init=False)
    _moves: Moves = field(init=False, default_factory=Moves)
    _calibrated: int | None = field(init=False, default=None)
    """After how many images the averaged generator was last made ready to sample."""
    _collapse: str | None = field(init=False, default=None)
    """What made the doctor stop the run."""

    def run(self) -> Result:
        """Train to the end, or until all ranks agree to stop. Collective."""
        self.start()
        scores: Mapping[str, float] = {}
        with Display(self.progress, active=is_rank_zero()) as display:
            stopping = self.still_evaluating() or self.agree_to_stop(scores)
            while not (stopping or self.progress.done):
                self.profile.step()
                with self.load.step():
                    self.train_step([self.next_batch() for _ in range(self.task.batches_per_step)])
                self.count_step()
                if self.due(self.config.log.interval_kimg):
                    metrics = self.examine(self.read_means())
                    self.tracker.log(metrics, self.progress)
                    self.journal.count(metrics, self.progress)
                    display.update(metrics)
                if self.due(self.config.preview.interval_kimg):
                    self.preview()
                if kinds := self.evaluations.due(self.progress):
                    scores = self.evaluate(kinds)
                if self.due(self.config.snapshot.interval_kimg):
                    self.snapshot()
                if self.due(self.config.features_kimg):
                    self.examine_features()
                if self.rolls_back():
                    self.roll_back()
                stopping = self.agree_to_stop(scores)
                if stopping or self.due(self.config.checkpoint.interval_kimg):
                    self.save()
        return self.finish(scores)

    @profiled
    def train_step(self, batches: Sequence[Batch]) -> None:
        """Let the players move in turn, then the average, on one or more global batches."""
        self.task.before_step(self.progress)
        for phase in self.task.phases(self.progress):
            with self.profile.span(phase.name):
                self.move(phase, batches[phase.batch])
        self.ema.update(self.strategies[self.task.averaged[0]].full_params(), self.progress)
        self.means.add({"ema/half_life_kimg": self.ema.half_life(self.progress) / 1000})
        self.progress.advance()
        self.journal.beat(self.progress)
        self.means.add(dict(self.task.after_step(self.progress)))
        self.watchdog.beat("between steps", pause=True)

    @profiled
    def count_step(self) -> None:
        """Count what the step just taken computed, which takes a while where it is the first of its kind."""
        began = time.perf_counter()
        self.means.add(self.usage.of_step(self.progress))
        self._speed.leave_out(time.perf_counter() - began)

    def move(self, phase: Phase, batch: Batch) -> None:
        """Let one player move: its losses on the batch's micro-batches, then a step of its optimizer."""
        strategy, rivals = self.strategies[phase.player], self.rivals(phase)
        for micro, last in batch.micro_batches(self.config.images_at_once, self.task.group):
            self.watchdog.beat(phase.name)
            loss, stats = strategy.loss(phase, micro, rivals, last_micro=last)
            strategy.backward(loss)
            self.means.add(stats)
        self.usage.take(phase, self.progress)
        now = (self.progress.samples_seen, self.progress.total)
        rates = self.task.optimizers[phase.player].rates_at(*now, global_batch=self.config.global_batch)
        rates = rates._replace(lr=rates.lr * self.recovery.lr_factor)
        moved = strategy.step(rates)
        self._moves.add(phase.name, self.progress, moved["skipped_step"])
        self.means.add({f"{name}/{phase.name}": value for name, value in moved.items()})
        self.means.add({f"lr/{phase.player}": rates.lr})

    def note_skipped_steps(self) -> None:
        """Learn which steps were skipped since the last time; the device alone knows, and is waited for now."""
        for phase, where, skipped in self._moves.read():
            self.checkup.health.count_step(phase, skipped=skipped)
            if skipped:
                self.journal.note("skipped_step", where, phase=phase)

    def rivals(self, phase: Phase) -> Rivals:
        """Freeze all players but the phase's own, and return their networks."""
        networks: dict[str, Callable[..., object]] = {}
        for name, strategy in self.strategies.items():
            strategy.set_trainable(name == phase.player)
            if name != phase.player:
                networks.update(strategy.infer())
        return networks

    @profiled
    def next_batch(self) -> Batch:
        """Take this rank's share of the next global batch."""
        asked = time.perf_counter()
        with self.load.data_wait():
            host = next(self.batches)
        self.means.add({"time/data_wait_s": time.perf_counter() - asked})
        images, labels, positions = map(torch.from_numpy, (host.fields["image"], host.fields["class"], host.positions))
        return Batch.from_host(
            images,
            labels,
            positions,
            seed=self.recovery.seed,
            device=self.ranks.device,
            size=self.config.data.image.shape[1:],
            crop=self.config.data.crop or "center",
            flip=self.config.data.flip,
            label_dropout=self.config.data.label_dropout,
        )

    def due(self, interval_kimg: float) -> bool:
        """Tell whether the step just taken reached a multiple of an interval, or the end."""
        return self.progress.passed(interval_kimg)

    @profiled
    def start(self) -> None:
        """Go on from the newest checkpoint, if there is one, and open the books."""
        loaded = self.checkpoints.load_latest()
        self.batches.seek(self.progress.samples_seen)
        if loaded:
            log.info("resuming from %s", loaded)
        elif self.config.health.on_collapse == "rollback":
            self.checkpoints.save(self.progress)  # there is always something to go back to
        ranks, batch, micro = self.ranks.world_size, self.config.global_batch, self.config.images_at_once
        where = f"{ranks} rank{'s' * (ranks > 1)} ({self.ranks.device.type})"
        log.info(
            "%s: %d images a step in %d x %d micro-batches of %d", where, batch, ranks, batch // ranks // micro, micro
        )
        if self.ranks.device.type == "cpu" and (advice := advice_on(self.config.precision, convolution_speeds())):
            log.info("%s", advice)
        self.journal.compare_cut(batch // ranks, micro, self.task.players.values())
        self.tracker.start(self.progress, **describe_run(self.config, self.manifest, self.ranks))
        for name in ("config.yaml", "environment.json"):
            self.tracker.log_file(self.folder / name, self.progress)
        self.journal.begin(
            self.progress, loaded, world_size=ranks, micro_batches=batch // ranks // micro, **place_of_this_process()
        )
        if not self.progress.samples_seen and self.config.preview.interval_kimg:
            self.preview()  # MLflow's sliders begin at step 0
        self._speed = Speed(self.progress)

    @profiled
    def read_means(self) -> dict[str, float]:
        """Return what was measured since the last reading, averaged over steps and ranks. Collective.

        Damaged samples and repeated fetches are counted since this process began.
        """
        self.note_skipped_steps()
        speed = self._speed.read()
        faults = self.batches.faults
        replaced, retries = sum_over_ranks(torch.tensor([faults.replaced, faults.retries])).tolist()
        metrics = {
            **self.means.read(),
            **speed,
            **self.load.read(self.usage.activations),
            "data/replaced": replaced,
            "data/retries": retries,
        }
        place = {
            "progress/kimg": self.progress.kimg,
            "progress/epoch": self.progress.samples_seen / self.manifest.count,
        }
        return {**metrics, **place, **self.usage.of_interval(metrics)}

    def still_evaluating(self) -> bool:
        """Do the evaluations that a stop broke off; tell whether they were broken off again. Collective."""
        if self.evaluations.unfinished:
            self.evaluate(self.evaluations.unfinished)
            self.save()
        return bool(self.evaluations.unfinished)

    @profiled
    def evaluate(self, kinds: Sequence[str]) -> dict[str, float]:
        """Score the averaged generator, and keep the best one. Collective."""
        began = time.perf_counter()
        generator = self.averaged()

        def generate(draws: Draws) -> tuple[Tensor, Tensor]:
            label = self.task.labels(draws)
            return self.task.generate(generator, draws, label=label), label

        scores, better = self.evaluations.run(kinds, generate, self.progress, stop=lambda: stop.received() is not None)
        seconds = time.perf_counter() - began
        metrics = flat_metrics(scores)
        if replaced := self.evaluations.replaced():
            metrics["data/reference_replaced"] = float(replaced)
        self.tracker.log_scores(scores, self.progress)
        self.tracker.log({**metrics, "time/eval_s": seconds} if scores else {}, self.progress)
        if better:
            self.checkpoints.note_best()
            best = self.folder / "snapshots" / "best"
            save = partial(self._save, generator=generator, scores=as_json(scores))
            self._write_snapshot(best, lambda: replace_folder(best, save))
            self.tracker.log_snapshot("best", best, self.progress)
        log.info("kimg %-7.1f %s%s  (%.0f s)", self.progress.kimg, in_words(scores), ", the best" * better, seconds)
        self._speed.leave_out(seconds)
        return metrics

    @profiled
    def examine(self, metrics: dict[str, float]) -> dict[str, float]:
        """Let the doctor look at the interval's metrics, D and the weights; return all to log. Collective."""
        step_seconds = metrics["time/sec_per_kimg"] * self.config.global_batch / 1000
        metrics = {**metrics, "time/data_wait_share": metrics["time/data_wait_s"] / step_seconds}
        networks = {key: network for strategy in self.strategies.values() for key, network in strategy.infer().items()}
        judge = partial(self.task.judge, networks)
        found = self.checkup.quick(metrics, judge, self.parameters(), self.progress)
        self.write_health()
        return {**metrics, **found}

    @profiled
    def examine_features(self) -> None:
        """Let the doctor compare fakes with real images. Collective."""
        began = time.perf_counter()
        generator = self.averaged()
        found, neighbours = self.checkup.thorough(
            lambda draws, label: self.task.generate(generator, draws, label=label), self.progress
        )
        self.tracker.log(found, self.progress)
        if neighbours and is_rank_zero():
            self.tracker.log_image(
                "health/neighbours", image_grid(neighbours.images, neighbours.columns), self.progress
            )
        self.write_health()
        self._speed.leave_out(time.perf_counter() - began)

    def write_health(self) -> None:
        """Leave the doctor's report in the run folder."""
        if is_rank_zero():
            write_report(self.folder, self.checkup.health, self.recovery, self.progress)

    def parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the weights of all players. Collective where sharded."""
        for name, strategy in self.strategies.items():
            names = {key for key, _ in self.task.players[name].named_parameters()}
            yield from ((f"{name}.{key}", value) for key, value in strategy.full_params() if key in names)

    def rolls_back(self) -> bool:
        """Tell whether training has collapsed and is to go back; if it is to stop for it, note why."""
        collapse, config = self.checkup.health.collapse, self.config.health
        if collapse is None or (config.on_collapse == "report" and not self.checkup.health.at_standstill):
            return False
        if config.on_collapse == "rollback" and self.recovery.rollbacks < config.max_rollbacks:
            return True
        self._collapse = collapse
        self.write_health()
        log.info("kimg %-7.1f health: stopping, %s", self.progress.kimg, collapse)
        return False

    @profiled
    def roll_back(self) -> None:
        """Return to the last healthy checkpoint, to go on from there slower and with other noise. Collective."""
        collapse, begun, rollbacks = self.checkup.health.collapse, self.progress.samples_seen, self.recovery.rollbacks
        path = self.checkpoints.return_to_healthy()
        self._calibrated = None
        self.recovery.rollbacks = rollbacks + 1
        self.batches.seek(self.progress.samples_seen)
        self.tracker.roll_back(str(collapse), begun, self.progress)
        self.journal.note("rollback", self.progress, reason=str(collapse), begun_kimg=begun / 1000)
        self.tracker.log({"health/rollbacks": float(self.recovery.rollbacks)}, self.progress)
        self.checkpoints.save(self.progress)
        self.report_checkpoint()  # a crash must not undo it
        self.write_health()
        self._speed = Speed(self.progress)
        log.info(
            "kimg %-7.1f health: back to %s at %g times the learning rates (%s)",
            *(begun / 1000, path, self.recovery.lr_factor, collapse),
        )

    @profiled
    def save(self) -> None:
        """Write a checkpoint while training goes on. Collective."""
        self.note_skipped_steps()
        self.report_checkpoint()
        self.checkpoints.save(self.progress, healthy=self.checkup.health.healthy)
        self.tracker.log({"time/checkpoint_s": self.checkpoints.blocked_s}, self.progress)

    def report_checkpoint(self) -> None:
        """Wait until the last checkpoint is written, and report it. Collective."""
        if written := self.checkpoints.wait():
            self.tracker.log_checkpoint(written)

    @profiled
    def preview(self) -> None:
        """Report pictures of what the averaged generator makes and D is shown. Collective."""
        for key, picture in self.previews.draw(self.averaged(), self.progress).items():
            self.tracker.log_image(key, picture, self.progress)

    @profiled
    def snapshot(self) -> Path:
        """Write the averaged generator, ready to use, and the averages by power functions below it. Collective."""
        folder = self.folder / "snapshots" / f"kimg{self.progress.kimg:010.3f}"

        def save_all() -> None:
            self._save(folder, self.averaged(), scores=as_json(self.evaluations.scores_at(self.progress)))
            for sigma_rel, generator in self.ema.profiles.items():
                self.task.calibrate(generator)
                self._save(folder / f"sigma-{sigma_rel:g}", generator, sigma_rel=sigma_rel)

        self._write_snapshot(folder, save_all)
        return folder

    def _write_snapshot(self, folder: Path, write: Callable[[], None]) -> None:
        """Let rank 0 write a snapshot, or end the run on all ranks. Collective."""
        try:
            on_rank_zero(write)
        except OSError as error:
            self.report_checkpoint()
            raise SnapshotError(f"{folder}: cannot be written ({error}); the newest checkpoint is untouched") from None

    def _save(self, folder: Path, generator: Generator, **facts: object) -> None:
        save_snapshot(
            folder,
            generator,
            self.task.generator_config,
            class_names=self.manifest.classes if self.config.data.classes else (),
            facts={"samples_seen": self.progress.samples_seen, "dataset": self.manifest.name, **facts},
        )

    def averaged(self) -> Generator:
        """Return the averaged generator, ready to sample; it is made so once a step."""
        if self._calibrated != self.progress.samples_seen:
            with self.profile.span("calibrate"):
                self.task.calibrate(self.ema.generator)
            self._calibrated = self.progress.samples_seen
        return self.ema.generator

    @profiled
    def agree_to_stop(self, scores: Mapping[str, float]) -> bool:
        """Tell whether any rank was asked to stop; the same answer on every rank. Collective."""
        asked = stop.received() is not None or self._collapse is not None or self.report(scores)
        return any_rank(asked or self.checkpoints.failed)  # who stops saves, and so learns that saving fails

    def finish(self, scores: Mapping[str, float]) -> Result:
        """Close the books."""
        self.report_checkpoint()
        stop.leave()
        self.batches.close()
        self.journal.beat(self.progress, now=True)
        complete = self.progress.done and not self.evaluations.unfinished
        if complete:
            snapshot = self.snapshot()
            if is_rank_zero():
                curves = self.folder / "curves.png"
                plot_curves(read_metrics(self.folder), curves)
                self.tracker.log_file(curves, self.progress)
                self.tracker.log_snapshot("final", snapshot, self.progress)
                self.tracker.log_model(snapshot, self.progress)
                if (best := self.folder / "snapshots" / "best").is_dir():
                    self.tracker.log_model(best, self.progress)
            self.journal.note("complete", self.progress)
        else:
            asked, seen = first_of_ranks(stop.received()), self.progress.samples_seen
            reason = asked or self._collapse or "request"
            self.journal.note("stopped", self.progress, by=reason)
            if is_rank_zero():
                mark_stopped(self.folder, signal=reason, samples_seen=seen, by_signal=asked is not None)
        for path in self.profile.write():
            if is_rank_zero():
                self.tracker.log_file(path, self.progress)
        self.tracker.finish("FINISHED" if complete else "KILLED", self.progress)
        return Result(complete=complete, scores=scores)

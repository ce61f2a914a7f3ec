"""Score a run's snapshots as they appear, beside it: `python -m bigtrain.run.watch run=FOLDER`."""

from bigtrain.core import stop

if __name__ == "__main__":
    stop.catch_signals()  # before torch is imported, see bigtrain.train

import fcntl
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from bigtrain.config import TrainingConfig, load_training
from bigtrain.core.config import ConfigError
from bigtrain.core.logging import log
from bigtrain.core.signals import STOPPED
from bigtrain.core.state import Progress
from bigtrain.distributed.collectives import any_rank, from_rank_zero, is_rank_zero
from bigtrain.distributed.init import Ranks
from bigtrain.distributed.program import as_one_of_the_ranks, settings_of_program
from bigtrain.evaluation.best import Best
from bigtrain.evaluation.errors import Interrupted
from bigtrain.evaluation.evaluator import ScoreConfig
from bigtrain.evaluation.extractors import runs_code
from bigtrain.evaluation.protocol import Score, flat_metrics, in_words
from bigtrain.generate.snapshot import load_snapshot
from bigtrain.run.data import find_data
from bigtrain.run.evaluate import WatchSettings, evaluate
from bigtrain.run.scored import given_samples, scored_outputs
from bigtrain.tracking.spool import FILE_NAME, WATCH_NAME, Spool, read_records
from data_pipelines.files import replace_folder

_POLL_SECONDS = 2.0
_SEND_SECONDS = 120.0


class Watch:
    """Scores every snapshot of a run once, and reports it beside the run's own reports; every rank holds one.

    What was scored is read back from its file, so it can be stopped at any time and started again.

    Args:
        run: the run folder.
        config: the run's.
        scores: which to make.
        ranks: who shares the work.
    """

    def __init__(self, run: Path, config: TrainingConfig, scores: ScoreConfig, ranks: Ranks) -> None:
        self._run, self._config, self._scores, self._ranks = run, config, scores, ranks
        self._data = find_data(config)
        self._best = Best(config.eval.best)
        self._done: set[str] = set()
        if is_rank_zero():
            self._spool = Spool(run, WATCH_NAME)
            self._recall()

    def until_the_end(self) -> bool:
        """Score snapshots until the run is complete; tell whether that was reached, and not a stop. Collective."""
        while not any_rank(stop.received() is not None):
            # In this order: a snapshot that is written meanwhile is there when the run is complete.
            complete, snapshot = from_rank_zero((self._complete(), self._next()) if is_rank_zero() else (False, None))
            if snapshot is None:
                if complete:
                    if is_rank_zero():
                        self._send()  # the run's sender may have ended before the last scores came
                    return True
                time.sleep(_POLL_SECONDS)
                continue
            try:
                self._score(snapshot)
            except Interrupted:
                break  # it is scored when the watch is started again
        return False

    def _score(self, folder: Path) -> None:
        began = time.perf_counter()
        snapshot = load_snapshot(folder)
        reals = given_samples(snapshot.sampler, self._data, self._config.eval.samples)
        found = evaluate(
            snapshot,
            scored_outputs(snapshot.sampler, self._data, reals, self._ranks.device),
            self._scores,
            self._ranks,
            seeds=(self._config.seed,),
            stop=lambda: stop.received() is not None,
        )
        if is_rank_zero():
            samples_seen = int(snapshot.description["samples_seen"])
            for name, score in found.items():
                self._spool.append("score", samples_seen, key=name, score=score.as_json(), snapshot=folder.name)
            self._spool.append("metrics", samples_seen, metrics=flat_metrics(found))
            better = self._remember(folder.name, found, samples_seen)
            if better and not self._config.eval.interval_kimg:  # else the run keeps it
                replace_folder(self._run / "snapshots" / "best", lambda best: _copy(folder, best))
            seconds = time.perf_counter() - began
            log.info("kimg %-7.1f %s%s  (%.0f s)", samples_seen / 1000, in_words(found), ", the best" * better, seconds)

    def _recall(self) -> None:
        """Take over what an earlier watch scored."""
        found: dict[str, tuple[int, dict[str, Score]]] = {}
        for record, _ in read_records(self._run / WATCH_NAME):
            if record["kind"] == "score":
                _, scores = found.setdefault(record["snapshot"], (record["samples_seen"], {}))
                scores[record["key"]] = Score.from_json(record["score"])
        for name, (samples_seen, scores) in found.items():
            self._remember(name, scores, samples_seen)

    def _remember(self, name: str, scores: Mapping[str, Score], samples_seen: int) -> bool:
        self._done.add(name)
        progress = Progress(total=0, batch=0)
        progress.samples_seen = samples_seen
        return self._best.update(scores, progress)

    def _next(self) -> Path | None:
        """Return the oldest whole snapshot that has not been scored."""
        found = sorted((self._run / "snapshots").glob("kimg*"))
        return next((one for one in found if one.name not in self._done and (one / "snapshot.json").is_file()), None)

    def _complete(self) -> bool:
        """Tell whether the run has seen all of its images."""
        return self._ending() == "FINISHED"

    def _ending(self) -> str | None:
        """Return how the run ended; None while it goes on."""
        records = [record for record, _ in read_records(self._run / FILE_NAME, kinds=("start", "end"))]
        return records[-1].get("status") if records else None

    def _send(self) -> None:
        """Send what there is to MLflow, in a process of its own; as long as the run goes on, its own sender does."""
        if self._config.tracking.mlflow and self._ending() is not None:
            command = [sys.executable, "-m", "bigtrain.tracking.sender", str(self._run)]
            try:
                subprocess.run(command, timeout=_SEND_SECONDS, check=False)
            except subprocess.TimeoutExpired:
                log.warning(
                    "MLflow did not receive the scores in time; send them later with: bigtrain sync %s", self._run
                )


def _copy(snapshot: Path, best: Path) -> None:
    shutil.copytree(snapshot, best, dirs_exist_ok=True, ignore=shutil.ignore_patterns("sigma-*"))


def scores_for(config: TrainingConfig, changes: ScoreConfig) -> ScoreConfig:
    """Return the scores to make: the run's full ones if it has them, else its progress scores, with the changes.

    Raises:
        ConfigError: the run's config names a Python file as the extractor, which would be run, and the changes do not.
    """
    base = (config.eval.full or config.eval).model_dump(include=set(ScoreConfig.model_fields))
    scores = ScoreConfig(**{**base, **changes.model_dump(exclude_unset=True)})
    if runs_code(scores.extractor) and "extractor" not in changes.model_fields_set:
        raise ConfigError(
            f"{config.run_dir}: its config.yaml would run the Python file of eval.extractor, {scores.extractor}: "
            f"if you trust the run, add --extractor {scores.extractor}"
        )
    return scores


@contextmanager
def _alone(run: Path) -> Iterator[None]:
    """Hold a lock, for a file of reports has one writer.

    Raises:
        ConfigError: another watch holds it.
    """
    with (run / ".watch.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"{run}: another bigtrain evaluate --watch is already scoring this run") from None
        yield


def main() -> NoReturn:
    """Run as one of the ranks: exit code 0 when the run is complete and scored, 3 when stopped."""
    settings = settings_of_program(WatchSettings, "bigtrain.run.watch")
    with as_one_of_the_ranks() as ranks:
        config = load_training(settings.run / "config.yaml")
        complete = _watch(settings.run, config, scores_for(config, settings.scores), ranks)
    sys.exit(0 if complete else STOPPED)


def _watch(run: Path, config: TrainingConfig, scores: ScoreConfig, ranks: Ranks) -> bool:
    if ranks.rank:
        return Watch(run, config, scores, ranks).until_the_end()
    with _alone(run):
        return Watch(run, config, scores, ranks).until_the_end()


if __name__ == "__main__":
    main()

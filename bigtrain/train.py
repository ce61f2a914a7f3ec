"""What every rank runs, whoever launches it: `python -m bigtrain.train CONFIG [key=value ...]`."""

import gc

from bigtrain.core import collector, stop

if __name__ == "__main__":
    stop.catch_signals()  # before torch is imported: a signal during the import must not kill the rank
    gc.disable()  # until all is imported, see `collector`

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NoReturn

from bigtrain.build import build, check
from bigtrain.config import TrainingConfig, load_training
from bigtrain.core.config import Config, ConfigError, apply_overrides, parse_config
from bigtrain.core.errors import UserError
from bigtrain.core.launchers import place_from_environment
from bigtrain.core.logging import close_log_file, crash_log, log_to_file, set_up_logging
from bigtrain.core.presence import RunBusyError, hold, place_of_this_process
from bigtrain.core.signals import STOPPED
from bigtrain.distributed.collectives import checked_by_rank_zero, from_rank_zero, is_rank_zero
from bigtrain.distributed.determinism import choose_algorithms
from bigtrain.distributed.init import Ranks, join_ranks, leave_ranks
from bigtrain.distributed.program import print_error
from bigtrain.planning.micro_batch import remember_micro_batch, resolve_micro_batch
from bigtrain.run.accelerate import check_accelerate
from bigtrain.run.failures import note_failure
from bigtrain.run.folder import open_run_folder
from bigtrain.trainer import Result
from data_pipelines.errors import DataError, UnreachableError
from data_pipelines.files import set_home
from data_pipelines.secrets import hide_in_tracebacks, print_line

_MISTAKES = (ConfigError, UnreachableError, DataError, UserError)
"""What a check finds; all ranks raise the first that fits."""


class LostDataError(DataError):
    """A server or a process went away while training: not the user's mistake, and worth a restart."""


class TrainSettings(Config):
    """What one call of the program does; the run itself is described by its config.

    Attributes:
        config: the YAML file.
        overrides: of its keys, `dotted.key=value` each.
        allow_config_change: go on in a run folder of another config.
        stop_at_kimg: stop at this place, with all saved; null for the end of the run.
    """

    config: str
    overrides: tuple[str, ...] = ()
    allow_config_change: bool = False
    stop_at_kimg: float | None = None


def train(config: TrainingConfig, *, allow_change: bool = False, stop_at_kimg: float | None = None) -> Result:
    """Train or go on, as one of the ranks that the environment tells of. Collective.

    Args:
        config: of the run.
        allow_change: go on in a run folder of another config.
        stop_at_kimg: stop at this place, with all saved, as a signal would; None for the end of the run.

    Raises:
        ConfigError, DataError: see `bigtrain.build.check`.
        LostDataError: data went away while training.
        RunBusyError: another process trains into the run folder.
    """
    rank, world_size, _ = place_from_environment(os.environ)
    set_up_logging(rank=rank)
    config = remember_micro_batch(config)
    ranks = join_ranks(timeout_minutes=config.watchdog.collective_minutes)
    failed, checked = True, False
    try:
        checked_by_rank_zero(partial(check_accelerate, config, os.environ), _MISTAKES)
        checked_by_rank_zero(partial(check, config, world_size=world_size, allow_change=allow_change), _MISTAKES)
        checked = True
        choose_algorithms(ranks.device, deterministic=config.deterministic)
        config = resolve_micro_batch(config, ranks)
        with _run_folder(config, ranks):
            log_to_file(config.folder / "logs" / f"rank{rank}.log", rank=rank)
            try:
                trainer = build(config, ranks, config.folder)
                if stop_at_kimg is not None:
                    trainer.early_stop.stop_at = 1000 * stop_at_kimg
                with trainer.watchdog:
                    result = trainer.run()
                failed = False
                return result
            except DataError as error:
                note_failure(config.folder, rank, error)
                raise LostDataError(f"rank {rank}: {error}") from error
    except LostDataError:
        raise
    except Exception as error:
        if checked:
            note_failure(config.folder, rank, error)
            crash_log.exception("rank %d failed", rank)
        raise
    finally:
        close_log_file()
        leave_ranks(failed=failed)


@contextmanager
def _run_folder(config: TrainingConfig, ranks: Ranks) -> Iterator[None]:
    """Hold the run folder, which must be nobody else's, and open it. Collective."""
    lock, problem = None, None
    if is_rank_zero():
        try:
            place = place_of_this_process(world_size=ranks.world_size, device=ranks.device.type)
            lock = hold(config.folder, place)
            open_run_folder(config)
        except (RunBusyError, OSError) as error:
            problem = str(error)
    problem = from_rank_zero(problem)
    if problem:
        raise RunBusyError(problem)
    try:
        yield
    finally:
        if lock is not None:
            lock.close()


def settings_from_words(words: Sequence[str]) -> TrainSettings:
    """Return the settings for `CONFIG [key=value ...]`: keys of TrainSettings, and overrides of the run's config.

    Raises:
        ConfigError: no config is named, or a value is none that its key takes.
    """
    program = "python -m bigtrain.train"
    if not words:
        raise ConfigError(f"{program}: name a config: CONFIG [key=value ...]")
    config, *others = words
    own = [word for word in others if word.partition("=")[0] in TrainSettings.model_fields]
    overrides = [word for word in others if word not in own]
    return parse_config(
        TrainSettings, {**apply_overrides({}, own), "config": config, "overrides": overrides}, source=program
    )


def main() -> NoReturn:
    """Run from the command line.

    Exit code 0 when complete, 2 for a mistake of the user's, 3 when stopped and saved, 4 when hung (see `watchdog`).
    """
    os.umask(os.umask(0o002) | 0o002)  # nothing that is made here can be changed by everybody
    set_home()
    hide_in_tracebacks()
    try:
        settings = settings_from_words(sys.argv[1:])
        config = load_training(settings.config, settings.overrides)
        result = train(config, allow_change=settings.allow_config_change, stop_at_kimg=settings.stop_at_kimg)
    except LostDataError as error:
        print_line(str(error))
        sys.exit(1)
    except (UserError, DataError) as error:
        print_error(error, place_from_environment(os.environ)[0])
        sys.exit(1 if isinstance(error, UnreachableError) else 2)
    sys.exit(0 if result.complete else STOPPED)


if __name__ == "__main__":
    collector.resume()
    main()

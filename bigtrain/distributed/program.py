"""How programs of several ranks begin and end."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bigtrain.core.config import ConfigT, config_from_words
from bigtrain.core.errors import UserError
from bigtrain.core.launchers import place_from_environment
from bigtrain.core.logging import answering_in_json, set_up_logging
from bigtrain.distributed.gpus import DeviceError
from bigtrain.distributed.init import Ranks, join_ranks, leave_ranks
from data_pipelines.errors import DataError
from data_pipelines.files import set_home
from data_pipelines.secrets import hide_in_tracebacks, print_line

USERS_MISTAKE = 2
"""Exit code of a program that the user can mend something for."""


def settings_of_program(schema: type[ConfigT], program: str) -> ConfigT:
    """Return a program's settings from its arguments `key=value`; a mistake ends it with one line and exit code 2.

    Args:
        schema: the settings' class.
        program: its name, for messages.
    """
    hide_in_tracebacks()
    try:
        return config_from_words(schema, sys.argv[1:], source=f"python -m {program}")
    except UserError as error:
        if place_from_environment(os.environ)[0] == 0:
            print_line(str(error))
        sys.exit(USERS_MISTAKE)


@contextmanager
def as_one_of_the_ranks(*, answers_in_json: bool = False) -> Iterator[Ranks]:
    """Be a rank of a program, under torchrun or alone, for the length of a block.

    What the user can mend ends the program with one line of rank 0's and exit code 2, on every rank.

    Args:
        answers_in_json: standard output is for another program to read: the log goes to standard error.
    """
    rank = place_from_environment(os.environ)[0]
    set_home()
    set_up_logging(rank=rank)
    try:
        with answering_in_json(answers_in_json):
            yield join_ranks()
    except (UserError, DataError) as error:
        leave_ranks(failed=True)
        print_error(error, rank)
        sys.exit(USERS_MISTAKE)
    except SystemExit as ended:
        leave_ranks(failed=bool(ended.code))
        raise
    except BaseException:
        leave_ranks(failed=True)
        raise
    else:
        leave_ranks()


def print_error(error: UserError | DataError, rank: int) -> None:
    """Print what the user can mend: once, where all ranks have met it; with its place where it is one rank's own."""
    if isinstance(error, DeviceError):
        print_line(f"rank {rank} on {socket.gethostname()}: {error}")
    elif rank == 0:
        print_line(str(error))

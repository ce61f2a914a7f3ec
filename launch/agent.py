"""torchrun, ending quietly: `python -m launch.agent ...` takes torchrun's arguments.

A signal or a rank that failed has been reported by then; torchrun would add a traceback of its own insides.
"""

import logging
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def main() -> None:
    """Run torchrun; exit with the code of the first rank that failed, or with 128 + the signal that came."""
    logging.disable(logging.WARNING)
    try:
        run.main()
    except SignalException as stopped:
        sys.exit(128 + int(stopped.sigval))
    except ChildFailedError as failed:
        _, failure = failed.get_first_failure()
        sys.exit(failure.exitcode if failure.exitcode > 0 else 1)


if __name__ == "__main__":
    main()
